"""Files of `tools.quantize`, run by the daemon's interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge.interpreter import Interpreter
from edge.manifest import Decoder
from tools.package import Facts, write_folder
from tools.quantize import FakeQuantizer, export, trace

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


def answers(
    net: nn.Module, shape: tuple[int, int], folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """What file, simulation and net make of one noisy picture, and the output's step.

    The net's weights become smaller; its file is `net.tflite`, the model folder `folder`.
    """
    with torch.no_grad():  # pixels are 0..255: bring activations near one
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight /= 100
    chance = np.random.default_rng(5)
    images = [chance.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(8)]
    ranges = export(net, images, folder / "net.tflite", (3, *shape))
    interpreter = packed(folder / "folder", folder / "net.tflite")
    graph = trace(net)
    with torch.no_grad():
        simulated = graph(tensor_of(images[0]), FakeQuantizer(graph, ranges))["output"][0].numpy()
        exact = net(tensor_of(images[0]))[0].numpy()
    found = infer(interpreter, images[0])["output"]
    return found, simulated, exact, scale_of(interpreter, "output")
