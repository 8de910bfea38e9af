"""Why a network answers as it does: HiResCAM pictures of classifiers and detectors."""
