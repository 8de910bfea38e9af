"""Decoder `ssd_postprocess`: the four outputs of TFLite's own detection post-processing operator.

The outputs are boxes, classes, scores and their count. The model itself decodes and suppresses
boxes; the few that remain are float, so integers would gain nothing. The manifest's `roles` say
which tensor is which.
Assumes: boxes (1, n, 4) as top, left, bottom, right in shares of the input; classes count from 0
without the background.
Source: tensorflow/lite/kernels/detection_postprocess.cc; the TF Object Detection API's export.
"""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import NOTHING, Candidates, Indices, as_is, as_score, real_values
from edge.interpreter import Interpreter
from edge.manifest import Manifest

UNLISTED = -1


class SsdPostprocessDecoder:
    """Decodes the four outputs of a model."""

    def __init__(self, model: Manifest, min_score: float) -> None:
        specs = {spec.name: spec for spec in model.outputs}
        self._names = model.decoder.roles
        self._boxes = real_values(specs[self._names["boxes"]], as_is)
        self._class_ids = real_values(specs[self._names["classes"]], as_is)
        self._scores = real_values(specs[self._names["scores"]], as_score)
        self._count = real_values(specs[self._names["count"]], as_is)
        self._min_score = min_score
        self._label_of = _label_table(model)
        width, height = model.input.size
        self._unit_px = np.array([width, height, width, height], np.float32)

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return the candidates in the operator's current outputs."""
        count = int(self._count(interpreter.output(self._names["count"])))
        scores = self._scores(interpreter.output(self._names["scores"])[:count])
        class_ids = np.rint(self._class_ids(interpreter.output(self._names["classes"])[:count]))
        last = len(self._label_of) - 1  # UNLISTED, which stands for all classes beyond as well
        classes = self._label_of[np.clip(class_ids.astype(np.intp), 0, last)]
        kept = np.flatnonzero((scores >= self._min_score) & (classes != UNLISTED))
        if not len(kept):
            return NOTHING
        boxes = self._boxes(interpreter.output(self._names["boxes"])[kept])
        return Candidates(scores[kept], classes[kept], boxes[:, [1, 0, 3, 2]] * self._unit_px)


def _label_table(model: Manifest) -> Indices:
    """Return the label index of each class of the network, UNLISTED where it has no label."""
    class_ids = model.decoder.class_ids or tuple(range(len(model.labels)))
    table = np.full(max(class_ids) + 2, UNLISTED, np.intp)
    table[list(class_ids)] = np.arange(len(class_ids))
    return table
