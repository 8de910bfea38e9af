"""Files of `tools.quantize`, run by the daemon's interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge.interpreter import Interpreter
from edge.manifest import Decoder
from tools.package import Facts, write_folder

SIDE = 16


def pictures(count: int = 8) -> list[np.ndarray]:
    """Noise, SIDE x SIDE pixels."""
    chance = np.random.default_rng(5)
    return [chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count)]


def tensor_of(image: np.ndarray) -> Tensor:
    """A batch of one picture, levels as real values."""
    return torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))


def packed(folder: Path, model: Path) -> Interpreter:
    """The file in a model folder, loaded as by the daemon."""
    image = {"color_order": "bgr", "resize": "letterbox"}
    decoder = Decoder(name="yolox")
    facts = Facts("small", "1", "detect", image, decoder, ("a",), 1, {}, "Apache-2.0")
    write_folder(folder, model, facts)
    return Interpreter.load(folder)


def infer(interpreter: Interpreter, image: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs in real values, channels first."""
    interpreter.input_view()[:] = (image.astype(np.int16) - 128).astype(np.int8)
    interpreter.invoke()
    found = {}
    for item in interpreter.manifest.outputs:
        value = (interpreter.output(item.name).astype(np.float32) - item.zero_point) * item.scale
        found[item.name] = value.transpose(2, 0, 1) if value.ndim == 3 else value
    return found


def scale_of(interpreter: Interpreter, name: str) -> float:
    """The quantization step of an output."""
    return next(item.scale for item in interpreter.manifest.outputs if item.name == name)
