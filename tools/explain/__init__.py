"""Why a network answers as it does: Grad-CAM pictures of classifiers and detectors."""
