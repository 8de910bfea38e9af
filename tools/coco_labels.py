"""COCO's 80 class names, and the two class numberings that detectors use.

`coco80` numbers the used classes 0..79, as YOLO files do. `coco90` is COCO's category id minus 1,
0..89 with gaps, as in files of the TF Object Detection API.
Source: the category list of COCO 2017 (cocodataset.org).
"""

from __future__ import annotations

NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

COCO80 = dict(zip(NAMES, range(len(NAMES)), strict=True))
COCO90 = dict(zip(NAMES, (n - 1 for n in range(1, 91) if n not in UNUSED_IDS), strict=True))
BUILT_IN = {"coco80": COCO80, "coco90": COCO90}
