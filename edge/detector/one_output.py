"""What decoders of one output share: its layout, thresholds and tables, from the manifest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edge.detector.candidates import (
    as_is,
    as_score,
    class_selection,
    quantized_level,
    real_values,
)
from edge.manifest import Manifest


class OneOutput:
    """The one output of one model; boxes first, then scores.

    first_class: channel of the first class.
    """

    first_class: ClassVar[int]

    def __init__(self, model: Manifest, min_score: float) -> None:
        (spec,) = model.outputs
        self._name = spec.name
        self._channels_first = model.decoder.channels_first
        self._classes = class_selection(model.decoder, self.first_class, len(model.labels))
        self._min_score = min_score
        self._least = quantized_level(min_score, spec)
        self._scores = real_values(spec, as_score)
        self._boxes = real_values(spec, as_is)
        self._unit_px = np.array(model.box_unit_px(), np.float32)
