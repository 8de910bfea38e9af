"""Accuracy and speed of detectors, measured with the daemon's own code: `evaluate detect`.

`accuracy`: COCO's metrics. `confusion`: confusion matrix. `subjects`: the models that can be
measured. `timing`: invoke times. `kernels`: whether TFLite's kernels agree. `pictures`: a sheet of
hits and errors. `report`: tables and files.
"""

from tools.evaluate.accuracy import (
    MIN_SCORE,
    Accuracy,
    GroupAccuracy,
    collect,
    evaluate,
    ground_truth,
    restrict_to_labels,
    score,
)

__all__ = [
    "MIN_SCORE",
    "Accuracy",
    "GroupAccuracy",
    "collect",
    "evaluate",
    "ground_truth",
    "restrict_to_labels",
    "score",
]
