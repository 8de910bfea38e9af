"""Objects of one frame from an anchor-free int8 detector (decoder `yolox`).

Method: letterbox the frame straight into the input tensor, run the network, keep the cells whose
quantized objectness and class reach the quantized threshold, turn only these into floats,
suppress overlaps within a class. Score = sigmoid(objectness) * sigmoid(class), so each factor
alone must reach the threshold: an exact bound, checked on integers.
Assumes: per stride s the outputs `box_<s>` (x, y offset and log size in cells), `objectness_<s>`
and `class_<s>` (logits), each with its own scale.
Source: YOLOX (Ge et al. 2021), decoding of the published model.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.manifest import Input, TensorSpec
from edge.values import Box, Detection, Image

Floats = NDArray[np.float32]

MAX_DETECTIONS = 300
MAX_CANDIDATES = 1000  # before suppression, whose cost is quadratic
_FLIP_SIGN = np.uint8(0x80)  # pixel p -> int8 value p - 128, bit by bit


class Detector:
    """Finds objects; `detect`, or its three stages one by one where each is timed.

    interpreter: loaded with a model of task `detect`. min_score: 0..1, detections below are
    not made. Raises ModelError when the model needs another decoder.
    """

    def __init__(self, interpreter: Interpreter, *, min_score: float) -> None:
        model = interpreter.manifest
        if model.task != "detect" or model.decoder.name != "yolox":
            raise ModelError(
                f"model {model.name}: task {model.task}, decoder {model.decoder.name}; "
                "the detector needs a model of task detect with decoder yolox"
            )
        self.min_score = min_score
        self._interpreter = interpreter
        self._letterbox = Letterbox(model.input)
        self._labels = model.labels
        self._nms_iou = model.decoder.nms_iou
        specs = {spec.name: spec for spec in model.outputs}
        self._strides = [_Stride(stride, specs, min_score) for stride in model.decoder.strides]

    def detect(self, bgr: Image) -> list[Detection]:
        """Return at most `MAX_DETECTIONS` objects, best first.

        bgr: uint8, (height, width, 3), any size from 1x1; not modified.
        Raises ValueError for an empty or wrongly shaped frame.
        """
        self.preprocess(bgr)
        self.invoke()
        height, width = bgr.shape[:2]
        return self.decode((width, height))

    def preprocess(self, bgr: Image) -> None:
        """Letterbox a frame into the network's input tensor; see `detect`."""
        self._letterbox.write(bgr, self._interpreter.input_view())

    def invoke(self) -> None:
        """Run the network."""
        self._interpreter.invoke()

    def decode(self, frame_size: tuple[int, int]) -> list[Detection]:
        """Return the objects that the network's outputs now say, best first.

        frame_size: (width, height) in pixels of the frame handed to `preprocess`.
        """
        found = [stride.candidates(self._interpreter) for stride in self._strides]
        if not any(len(scores) for scores, _, _ in found):
            return []
        scores, classes, boxes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        scores, classes, boxes = scores[best], classes[best], boxes[best]
        kept = suppress(boxes, classes, self._nms_iou)[:MAX_DETECTIONS]
        corners = self._in_frame(boxes[kept], frame_size)
        return [
            Detection(self._labels[index], score, Box(left, top, right - left, bottom - top))
            for index, score, (left, top, right, bottom) in zip(
                classes[kept].tolist(), scores[kept].tolist(), corners.tolist(), strict=True
            )
        ]

    def _in_frame(self, corners: Floats, frame_size: tuple[int, int]) -> Floats:
        """Scale (n, 4) corners from input to frame pixels and clip them to the frame."""
        inner = self._letterbox.inner_size(frame_size)
        ratios = np.array([frame / size for frame, size in zip(frame_size, inner, strict=True)] * 2)
        limits = np.array(frame_size * 2)
        clipped: Floats = np.clip(corners * ratios, 0.0, limits)
        return clipped


class Letterbox:
    """Writes frames into an input tensor as its manifest says, without a float image."""

    def __init__(self, spec: Input) -> None:
        self._height, self._width = spec.shape[1:3]
        self._keeps_aspect = spec.resize == "letterbox"
        self._swaps_colors = spec.color_order == "rgb"
        self._table = lookup_table(spec)
        signed = np.arange(256, dtype=np.uint8) ^ _FLIP_SIGN
        self._only_flips = bool(np.array_equal(self._table.view(np.uint8), signed))
        self._pad = self._table[spec.pad_value]

    def inner_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (width, height) in input pixels that a frame of this size covers."""
        if not self._keeps_aspect:
            return self._width, self._height
        width, height = frame_size
        ratio = min(self._width / width, self._height / height)
        return max(round(width * ratio), 1), max(round(height * ratio), 1)

    def write(self, bgr: Image, view: NDArray[Any]) -> None:
        """Fill the input tensor.

        bgr: uint8, (height, width, 3). view: int8 or uint8, (input height, input width, 3).
        Raises ValueError for an empty or wrongly shaped frame.
        """
        if bgr.ndim != 3 or bgr.shape[2] != 3 or 0 in bgr.shape or bgr.dtype != np.uint8:
            raise ValueError(
                f"a frame must be uint8 (height, width, 3) and not empty, got {bgr.dtype} "
                f"{bgr.shape}"
            )
        width, height = self.inner_size((bgr.shape[1], bgr.shape[0]))
        # INTER_LINEAR_EXACT: the same pixels on x86 and ARM.
        inner = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        if self._swaps_colors:
            inner = inner[:, :, ::-1]
        # The runtime reuses the input's memory, so the padding is written every time.
        view[height:] = self._pad
        view[:height, width:] = self._pad
        if self._only_flips:
            np.bitwise_xor(inner, _FLIP_SIGN, out=view.view(np.uint8)[:height, :width])
        else:
            view[:height, :width] = self._table[inner]


def lookup_table(spec: Input) -> NDArray[Any]:
    """Return the quantized value of each pixel value 0..255, in the tensor's dtype."""
    low, high = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}[spec.range]
    real = np.linspace(low, high, 256)
    limits = np.iinfo(spec.dtype)
    quantized = np.round(real / spec.scale) + spec.zero_point
    return np.clip(quantized, limits.min, limits.max).astype(spec.dtype)


class _Stride:
    """The three outputs of one cell size; int8 values become floats by table."""

    def __init__(self, stride: int, specs: dict[str, TensorSpec], min_score: float) -> None:
        box = specs[f"box_{stride}"]
        objectness, classes = specs[f"objectness_{stride}"], specs[f"class_{stride}"]
        self._names = (objectness.name, classes.name, box.name)
        self._labels = classes.shape[3]
        self._min_objectness = quantized_logit(min_score, objectness)
        self._min_class = quantized_logit(min_score, classes)
        self._min_score = min_score
        self._objectness_scores = _sigmoid(_levels(objectness))
        self._class_scores = _sigmoid(_levels(classes))
        self._offsets_px = _levels(box) * np.float32(stride)
        self._halves_px = np.exp(_levels(box)) * np.float32(stride / 2)
        rows, columns = np.divmod(np.arange(box.shape[1] * box.shape[2]), box.shape[2])
        self._cells_px = (np.stack([columns, rows], 1) * stride).astype(np.float32)

    def candidates(self, interpreter: Interpreter) -> tuple[Floats, NDArray[np.intp], Floats]:
        """Return scores (n,), class indices (n,), and corners (n, 4) in input pixels."""
        objectness, classes, boxes = (interpreter.output(name) for name in self._names)
        objectness = objectness.reshape(-1)
        cells = np.flatnonzero(objectness >= self._min_objectness)
        if not len(cells):
            return _NOTHING
        logits = classes.reshape(-1, self._labels)[cells]
        # Every label that reaches, not only the cell's best: .004 more AP50 at low thresholds.
        rows, found = np.nonzero(logits >= self._min_class)
        cells = cells[rows]
        scores = (
            self._objectness_scores[objectness[cells]] * self._class_scores[logits[rows, found]]
        )
        enough = scores >= self._min_score
        cells = cells[enough]
        return scores[enough], found[enough], self._corners(boxes.reshape(-1, 4)[cells], cells)

    def _corners(self, boxes: NDArray[Any], cells: NDArray[np.intp]) -> Floats:
        """Return left, top, right, bottom of quantized boxes (n, 4) in these cells."""
        centers = self._offsets_px[boxes[:, :2]] + self._cells_px[cells]
        halves = self._halves_px[boxes[:, 2:]]
        return np.concatenate([centers - halves, centers + halves], 1)


def quantized_logit(score: float, spec: TensorSpec) -> int:
    """Return the smallest quantized value whose sigmoid reaches `score`, within its dtype.

    One step lower than that where rounding could matter: the float score decides in the end.
    """
    limits = np.iinfo(spec.dtype)
    inside = min(max(score, 1e-6), 1 - 1e-6)
    wanted = math.log(inside / (1 - inside)) / spec.scale + spec.zero_point
    return int(min(max(math.ceil(wanted - 1e-3), limits.min), limits.max))


def suppress(corners: Floats, classes: NDArray[np.intp], max_iou: float) -> NDArray[np.intp]:
    """Return the indices of boxes that no better box of their class overlaps too much.

    corners: (n, 4) left, top, right, bottom, best first. max_iou: 0..1.
    Source: greedy non-maximum suppression.
    """
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    sides = np.maximum(high - low, 0)
    overlap = sides[:, :, 0] * sides[:, :, 1]
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    union = np.maximum(areas[:, None] + areas[None, :] - overlap, np.finfo(np.float32).tiny)
    covers = (overlap > max_iou * union) & (classes[:, None] == classes[None, :])
    alive = np.ones(len(corners), bool)
    for index in range(len(corners)):
        if alive[index]:
            alive[index + 1 :] &= ~covers[index, index + 1 :]
    return np.flatnonzero(alive)


def _levels(spec: TensorSpec) -> Floats:
    """Return the real value of all 256 quantized ones, in the order that indexing wants.

    That is 0..255 for uint8 and 0..127, -128..-1 for int8: negative indices count from the end.
    """
    quantized = np.arange(256, dtype=np.uint8).view(spec.dtype)
    return (quantized.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)


def _sigmoid(logits: Floats) -> Floats:
    return np.float32(1) / (np.float32(1) + np.exp(-logits))


_NOTHING = (np.empty(0, np.float32), np.empty(0, np.intp), np.empty((0, 4), np.float32))
