"""Runs a classifier's model folder with the daemon's interpreter, as a board would."""

from __future__ import annotations

import cv2
import numpy as np

from edge.interpreter import Interpreter
from edge.values import Image


def probabilities(loaded: Interpreter, bgr: Image) -> dict[str, float]:
    """Return the probability of each label for a picture, uint8 (height, width, 3)."""
    model = loaded.manifest
    width, height = model.input.size
    resized = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    rgb = np.ascontiguousarray(resized[..., ::-1], np.uint8)
    # With scale 1/128 and zero point 0, the quantized value is level - 128 (top bit flipped).
    loaded.input_view()[...] = (rgb ^ np.uint8(0x80)).view(np.int8)
    loaded.invoke()
    (output,) = model.outputs
    answer = loaded.output(output.name).reshape(-1).astype(np.float64)
    real = (answer - output.zero_point) * output.scale
    return dict(zip(model.labels, real.tolist(), strict=True))
