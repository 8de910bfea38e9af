"""Heat maps of a classifier (HiResCAM): `edge-tools explain classifier RUN PICTURE…`.

HiResCAM of a class's score before the softmax, with respect to the backbone's last feature map.
Needs the Keras model, because an int8 file has no gradients; `evaluate` measures their agreement.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge import picture_file
from edge.errors import InputError
from edge.values import Image
from tools import arguments
from tools.arguments import option
from tools.classifier import data, description, network, runtime
from tools.classifier.description import Description
from tools.explain import heatmap
from tools.explain.heatmap import Floats

EXAMPLES = """\
examples:
  edge-tools explain classifier runs/birds photo.jpg --output explained
  edge-tools explain classifier runs/birds DATASET/test --class sparrow
"""


@dataclass(frozen=True)
class Explanation:
    """A class's probability, 0..1, and its heat map, 0..1."""

    label: str
    share: float
    heat: Floats


class Explainer:
    """Explains the predictions of a trained classifier."""

    def __init__(self, folder: Path) -> None:
        self.described: Description = description.read(folder)
        if self.described.level != "NQ":
            raise InputError(f"{folder} is level {self.described.level}; name the Keras model (NQ)")
        keras, _ = runtime.load()
        net = network.load(folder / self.described.file)
        head = network.part(net, network.HEAD)
        self._maps = network.features_network(net, pooled=False)
        self._last = head.get_layer("classes")
        self._before = keras.Model(head.input, self._last.input)

    def explain(self, bgr: Image, label: str | None = None) -> Explanation:
        """Return the map of a picture, uint8 (h, w, 3), for a class; default: the predicted one."""
        _, tensorflow = runtime.load()
        rgb = np.ascontiguousarray(self._stretched(bgr)[..., ::-1])
        maps = tensorflow.convert_to_tensor(self._maps(data.network_input(rgb[None])))
        with tensorflow.GradientTape() as tape:
            tape.watch(maps)
            scores = self._logits(maps)
            shares = tensorflow.nn.softmax(scores).numpy()[0]
            row = int(shares.argmax()) if label is None else self.described.labels.index(label)
            score = scores[0, row]
        gradients = tape.gradient(score, maps).numpy()[0]
        heat = heatmap.hires_cam([(maps.numpy()[0], gradients)])
        return Explanation(self.described.labels[row], float(shares[row]), heat)

    def _logits(self, maps: Any) -> Any:
        _, tensorflow = runtime.load()
        kernel, bias = self._last.kernel, self._last.bias
        return tensorflow.matmul(self._before(maps), kernel) + bias

    def _stretched(self, bgr: Image) -> Image:
        side = (self.described.side_px, self.described.side_px)
        return np.asarray(cv2.resize(bgr, side, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, help="folder that edge-tools train classifier wrote")
    parser.add_argument("pictures", type=Path, nargs="+", help="pictures or folders")
    parser.add_argument(
        "--class", dest="label", help="explain this class; default: the predicted one"
    )
    option(parser, "--output", Path, Path("explained"), "folder")
    option(parser, "--threads", arguments.count, 1, "CPU threads of TensorFlow")


def run(args: argparse.Namespace) -> int:
    """Write each picture overlaid with its heat map."""
    runtime.use_threads(args.threads)
    explainer = Explainer(args.model)
    known = explainer.described.labels
    if args.label is not None and args.label not in known:
        raise InputError(f"class {args.label!r} is unknown; known are {', '.join(known)}")
    taken: set[Path] = set()
    for path, bgr in heatmap.pictures(args.pictures):
        found = explainer.explain(bgr, args.label)
        target = heatmap.unused(args.output / heatmap.file_name(path, found.label), taken)
        caption = f"{found.label} {found.share:.2f}"
        picture_file.write(target, heatmap.overlay(bgr, found.heat, caption))
        print(f"{target}: {caption}")
    return 0
