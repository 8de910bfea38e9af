"""A classifier's model folder through the daemon's own interpreter: what a board would answer."""

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
    # Scale 1/128 and zero point 0: the quantized level is the level with its top bit flipped.
    loaded.input_view()[...] = (rgb ^ np.uint8(0x80)).view(np.int8)
    loaded.invoke()
    (output,) = model.outputs
    answer = loaded.output(output.name).reshape(-1).astype(np.float64)
    real = (answer - output.zero_point) * output.scale
    return dict(zip(model.labels, real.tolist(), strict=True))
