"""How good detectors are, measured through the daemon's own code: `edge-tools evaluate detect`.

`accuracy` has COCO's figures, `confusion` what is taken for what, `subjects` the models that can be
measured, `timing` their invokes, `kernels` the proof that TFLite's kernels agree, `pictures` hits
and misses to look at, `report` tables and files.
"""

from tools.evaluate.accuracy import (
    MIN_SCORE,
    Accuracy,
    GroupAccuracy,
    collect,
    evaluate,
    ground_truth,
    of_labels,
    score,
)

__all__ = [
    "MIN_SCORE",
    "Accuracy",
    "GroupAccuracy",
    "collect",
    "evaluate",
    "ground_truth",
    "of_labels",
    "score",
]
