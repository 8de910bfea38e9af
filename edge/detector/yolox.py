"""Decoder `yolox`: an anchor-free int8 detector with separately quantized outputs per stride.

Score = sigmoid(objectness) * sigmoid(class), so each factor alone must reach the threshold. This
exact bound is checked on integers.
Assumes: per stride s the outputs `box_<s>` (x, y offset and log size in cells), `objectness_<s>`
and `class_<s>` (logits).
Source: YOLOX (Ge et al. 2021), decoding of the published model.
"""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import (
    NOTHING,
    Candidates,
    corners_of,
    levels,
    quantized_logit,
    sigmoid,
)
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.manifest import Manifest, TensorSpec


class YoloxDecoder:
    """Decodes all strides of a model. Raises ModelError when its manifest names none."""

    def __init__(self, model: Manifest, min_score: float) -> None:
        if not model.decoder.strides:
            raise ModelError(f"model {model.name}: decoder yolox without strides; package it again")
        specs = {spec.name: spec for spec in model.outputs}
        self._strides = [_Stride(stride, specs, min_score) for stride in model.decoder.strides]

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return the candidates in the network's current outputs."""
        per_stride = [stride.candidates(interpreter) for stride in self._strides]
        return Candidates(*(np.concatenate(parts) for parts in zip(*per_stride, strict=True)))


class _Stride:
    """Decodes the three outputs of a stride; int8 values become floats by table."""

    def __init__(self, stride: int, specs: dict[str, TensorSpec], min_score: float) -> None:
        box = specs[f"box_{stride}"]
        objectness, classes = specs[f"objectness_{stride}"], specs[f"class_{stride}"]
        self._names = (objectness.name, classes.name, box.name)
        self._labels = classes.shape[3]
        self._min_objectness = quantized_logit(min_score, objectness)
        self._min_class = quantized_logit(min_score, classes)
        self._min_score = min_score
        self._objectness_scores = sigmoid(levels(objectness))
        self._class_scores = sigmoid(levels(classes))
        self._offsets_px = levels(box) * np.float32(stride)
        self._sides_px = np.exp(levels(box)) * np.float32(stride)
        rows, columns = np.divmod(np.arange(box.shape[1] * box.shape[2]), box.shape[2])
        self._cells_px = (np.stack([columns, rows], 1) * stride).astype(np.float32)

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return the candidates in this stride's current outputs."""
        objectness, classes, boxes = (interpreter.output(name) for name in self._names)
        objectness = objectness.reshape(-1)
        cells = np.flatnonzero(objectness >= self._min_objectness)
        if not len(cells):
            return NOTHING
        logits = classes.reshape(-1, self._labels)[cells]
        # Every label that reaches it, not only the cell's best: .004 more AP50 at low thresholds.
        rows, labels = np.nonzero(logits >= self._min_class)
        cells = cells[rows]
        scores = (
            self._objectness_scores[objectness[cells]] * self._class_scores[logits[rows, labels]]
        )
        kept = scores >= self._min_score
        cells = cells[kept]
        boxes = boxes.reshape(-1, 4)[cells]
        centers = self._offsets_px[boxes[:, :2]] + self._cells_px[cells]
        corners = corners_of(centers, self._sides_px[boxes[:, 2:]])
        return Candidates(scores[kept], labels[kept], corners)
