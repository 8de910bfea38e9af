"""Decoder `yolov5`: one output of candidates with box, objectness and class scores.

Assumes: (1, candidates, 5 + classes), or channels first as the manifest says; center x, y, width,
height in the manifest's `box_unit`, then scores that have been through their sigmoid.
Score = objectness * class, so each factor alone must reach the threshold.
Source: the TFLite export of YOLOv5 (ultralytics/yolov5, models/tf.py), anchors applied within.
"""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import NOTHING, Candidates, corners_of
from edge.detector.one_output import OneOutput
from edge.interpreter import Interpreter

BOX_AND_OBJECTNESS = 5
_OBJECTNESS = 4


class Yolov5Decoder(OneOutput):
    """The one output of one model."""

    first_class = BOX_AND_OBJECTNESS

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return what the network's output now says."""
        output = interpreter.output(self._name)
        rows = output.T if self._channels_first else output
        rows = rows[np.flatnonzero(rows[:, _OBJECTNESS] >= self._least)]
        if not len(rows):
            return NOTHING
        classes = rows[:, self._classes]
        index, found = np.nonzero(classes >= self._least)
        scores = self._scores(rows[index, _OBJECTNESS]) * self._scores(classes[index, found])
        enough = scores >= self._min_score
        boxes = self._boxes(rows[index[enough], :4]) * self._unit_px
        return Candidates(scores[enough], found[enough], corners_of(boxes[:, :2], boxes[:, 2:]))
