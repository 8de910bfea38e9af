"""Base of the decoders that read one output: its layout, threshold and tables."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edge.detector.candidates import as_is, as_score, class_selection, quantized_level, real_values
from edge.manifest import Manifest


class OneOutput:
    """The only output of a model: channels of boxes first, then of scores.

    first_class: channel of the first class.
    """

    first_class: ClassVar[int]

    def __init__(self, model: Manifest, min_score: float) -> None:
        (spec,) = model.outputs
        self._name = spec.name
        self._channels_first = model.decoder.channels_first
        self._classes = class_selection(model.decoder, self.first_class, len(model.labels))
        self._min_score = min_score
        self._min_stored = quantized_level(min_score, spec)
        self._scores = real_values(spec, as_score)
        self._boxes = real_values(spec, as_is)
        self._unit_px = np.array(model.box_unit_px(), np.float32)
