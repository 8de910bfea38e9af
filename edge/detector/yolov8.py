"""Decoder `yolov8`: one output of candidates with box and class scores, no objectness.

Assumes: (1, 4 + classes, candidates) with the manifest's `channels_first`, else candidates first;
center x, y, width, height in the manifest's `box_unit`, then scores after the sigmoid. It reads all
families with this head (YOLOv8, v9, v11) when exported without suppression.
Source: the TFLite export of Ultralytics YOLOv8 (nn/modules/head.py, `Detect`).
"""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import NOTHING, Candidates, corners_of
from edge.detector.one_output import OneOutput
from edge.interpreter import Interpreter

BOX = 4


class Yolov8Decoder(OneOutput):
    """Decodes the output of a model."""

    first_class = BOX

    def candidates(self, interpreter: Interpreter) -> Candidates:
        """Return the candidates in the network's current output."""
        output = interpreter.output(self._name)
        channels = output if self._channels_first else output.T
        classes = channels[self._classes]
        labels, index = np.nonzero(classes >= self._min_stored)
        if not len(labels):
            return NOTHING
        scores = self._scores(classes[labels, index])
        kept = scores >= self._min_score
        boxes = self._boxes(channels[:BOX, index[kept]].T) * self._unit_px
        corners = corners_of(boxes[:, :2], boxes[:, 2:])
        return Candidates(scores[kept], labels[kept], corners)
