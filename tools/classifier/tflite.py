"""Runs a classifier's .tflite file of any level: pixels in, probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.interpreter import installed_runtime, load_engine
from tools.classifier.data import Pixels, network_input

LEVELS = (1 / 128, 0)  # input scale and zero point for which the int8 value is level - 128
TOP_BIT = np.uint8(0x80)


class TFLiteClassifier:
    """A .tflite file on the runtime that boards use, one picture at a time.

    Raises ModelError when the file cannot be loaded, or its input is not one color picture.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.runtime, _ = installed_runtime()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"model file {path}: {error.strerror}; convert the model") from None
        self._engine = load_engine(content, path, threads=threads)
        self._input = _single(self._engine.get_input_details(), path, "input")
        self._output = _single(self._engine.get_output_details(), path, "output")
        shape = tuple(int(size) for size in self._input["shape"])
        if len(shape) != 4 or shape[0] != 1 or shape[1] != shape[2] or shape[3] != 3:
            raise ModelError(f"model file {path}: input {shape} is not one square color picture")
        self.side_px = shape[1]
        is_int8 = self._input["dtype"] == np.int8
        self._takes_levels = is_int8 and self._input["quantization"] == LEVELS

    def probabilities(self, rgb: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (classes,) of a picture, uint8 (side, side, 3)."""
        self._engine.set_tensor(self._input["index"], self._quantized(rgb[None]))
        self._engine.invoke()
        return self._dequantized(self._engine.get_tensor(self._output["index"])[0])

    def _quantized(self, rgb: Pixels) -> NDArray[Any]:
        """Return pixels in the input's type and quantization; for LEVELS, as a board does it."""
        if self._takes_levels:
            return (rgb ^ TOP_BIT).view(np.int8)
        real = network_input(rgb)
        if self._input["dtype"] == np.float32:
            return real
        scale, zero_point = self._input["quantization"]
        limits = np.iinfo(self._input["dtype"])
        levels = np.rint(real / np.float32(scale)) + zero_point
        clipped: NDArray[Any] = np.clip(levels, limits.min, limits.max)
        return clipped.astype(self._input["dtype"])

    def _dequantized(self, answer: NDArray[Any]) -> NDArray[np.float32]:
        if answer.dtype == np.float32:
            return np.array(answer)
        scale, zero_point = self._output["quantization"]
        real: NDArray[np.float32] = answer.astype(np.float32) - np.float32(zero_point)
        return real * np.float32(scale)


def _single(details: list[dict[str, Any]], path: Path, role: str) -> dict[str, Any]:
    if len(details) != 1:
        raise ModelError(f"model file {path}: {len(details)} {role}s, a classifier has one")
    return details[0]
