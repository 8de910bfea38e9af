"""Decoder `yolov5`: one output of candidates with box, objectness and class scores.

Assumes: (1, candidates, 5 + classes), or channels first as the manifest says; center x, y, width,
height in the manifest's `box_unit`, then scores after the sigmoid.
Score = objectness * class, so each factor alone must reach the threshold.
Source: the TFLite export of YOLOv5 (ultralytics/yolov5, models/tf.py), which applies the anchors.
"""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import NOTHING, Candidates, corners_of
from edge.detector.one_output import OneOutput
from edge.interpreter import Interpreter

BOX_AND_OBJECTNESS = 5
_OBJECTNESS = 4


class Yolov5Decoder(OneOutput):
    """Decodes the output of a model."""

    first_class = BOX_AND_OBJECTNESS

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return the candidates in the network's current output."""
        output = interpreter.output(self._name)
        rows = output.T if self._channels_first else output
        rows = rows[np.flatnonzero(rows[:, _OBJECTNESS] >= self._min_stored)]
        if not len(rows):
            return NOTHING
        classes = rows[:, self._classes]
        index, labels = np.nonzero(classes >= self._min_stored)
        scores = self._scores(rows[index, _OBJECTNESS]) * self._scores(classes[index, labels])
        kept = scores >= self._min_score
        boxes = self._boxes(rows[index[kept], :4]) * self._unit_px
        return Candidates(scores[kept], labels[kept], corners_of(boxes[:, :2], boxes[:, 2:]))
