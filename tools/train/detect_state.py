"""Config and checkpoint of the detector's quantization-aware training (`train detect-int8`)."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge.errors import InputError
from edge.values import Image
from tools import tensor_file, tracking
from tools.architectures import yolox, yolox_graph
from tools.arguments import count_to, option
from tools.input_size import InputSize
from tools.quantize import Graph, Quantization
from tools.train.steps import refuse_other_config, relative_adam

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class DetectTraining:
    """Settings of one training run.

    size: of the network input. groups: number of channel groups of the stem, each with its own
        scale. rank: channels within the stem, see `yolox_graph.faster`.
    percentile: of the activation ranges, which stay fixed. calibration: pictures that the ranges
        are measured on. batch: pictures per step.
    learning_rate: relative to each tensor's root mean square; one rate for all diverges.
    ema: decay of the moving average of the weights. seed: of picture order and augmentation.
    is_mirrored: whether the teacher's outputs are averaged with those of the mirrored pictures.
    weights_sha256, data_sha256, val_sha256: of the float weights and of the JSON files of training
        and validation set.
    """

    size: InputSize = InputSize(352, 288)  # noqa: RUF009 - immutable
    groups: int = 2
    rank: int = 8
    percentile: float = 99.99
    calibration: int = 256
    steps: int = 600
    batch: int = 16
    learning_rate: float = 7e-4
    warmup_steps: int = 20
    ema: float = 0.998
    seed: int = 1
    is_mirrored: bool = False
    weights_sha256: str = ""
    data_sha256: str = ""
    val_sha256: str = ""


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Declare --weights, the float network that a command begins with."""
    parser.add_argument(
        "--weights",
        type=Path,
        default=yolox.WEIGHTS,
        help="float weights: a best.pt or yolox_nano.onnx; default: the shipped ones",
    )


def add_stem(parser: argparse.ArgumentParser, groups: int) -> None:
    """Declare the options of the stem, which every command that makes an int8 graph takes.

    groups: default of a stem that is not rectified.
    """
    parser.add_argument(
        "--groups",
        type=count_to(yolox.STEM_CHANNELS),
        help=f"channel groups of the stem, 1 to 16; default: {groups}, or 1 if it is rectified",
    )
    option(
        parser,
        "--stem-rank",
        count_to(yolox.BLOCK_CHANNELS),
        DetectTraining.rank,
        "channels between the stem's vertical and horizontal convolution; 12: square kernels",
    )


@dataclass
class State:
    """State of a run; `average` is the exponential moving average of `graph`.

    groups: stem channels of each branch. labels: of the class outputs. origin: of the float
    weights, human-readable. Labels and origin are not in the checkpoint.
    step, best, bad: see `steps.Progress`.
    """

    graph: Graph
    average: Graph
    ranges: dict[str, Quantization]
    groups: list[list[int]]
    labels: tuple[str, ...]
    origin: str
    optimizer: torch.optim.Adam
    step: int = 0
    best: float = -1.0
    bad: int = 0


@dataclass(frozen=True)
class Trained:
    """A run's averaged weights and the activation ranges it was trained with.

    The ranges also fit other input sizes: at 416, those of a run at 320 gave .552 AP50 on
    detection/val; ranges measured again at 416 gave .541.
    """

    config: DetectTraining
    graph: Graph
    ranges: dict[str, Quantization]
    step: int


def build(
    weights: Path,
    groups: list[list[int]],
    rank: int,
    size: InputSize,
    images: Sequence[Image] = (),
) -> Graph:
    """Return YOLOX-Nano with its float weights as a trainable graph.

    groups: see `yolox.Stem`. rank, images: see `yolox_graph.faster`.
    """
    return yolox_graph.build(yolox.load(weights, groups), size, rank, images)


def save(config: DetectTraining, state: State, path: Path) -> None:
    """Write a checkpoint atomically: a killed process leaves the previous one intact."""
    content = {
        "config": asdict(config) | {"size": list(config.size)},
        "groups": state.groups,
        "ranges": {name: (item.scale, item.zero_point) for name, item in state.ranges.items()},
        "graph": state.graph.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "best": state.best,
        "bad": state.bad,
    }
    tensor_file.write(content, path)


def resume(config: DetectTraining, weights: Path, path: Path) -> State:
    """Return the state stored in a checkpoint.

    Raises InputError when the file is not a checkpoint, or when it was made with another config;
    the message names the options that differ.
    """
    stored = _read(path)
    refuse_other_config(path, as_params(_config(stored)), as_params(config))
    graph = build(weights, stored["groups"], config.rank, config.size)
    average = copy.deepcopy(graph)
    adam = relative_adam(graph, config.learning_rate)
    _fill(graph, stored["graph"], path)
    _fill(average, stored["average"], path)
    adam.load_state_dict(stored["optimizer"])
    ranges = _ranges(stored)
    labels = yolox.stored_labels(weights)
    step, best, bad = stored["step"], stored["best"], stored["bad"]
    origin = yolox.origin(weights)
    return State(graph, average, ranges, stored["groups"], labels, origin, adam, step, best, bad)


def trained(path: Path, weights: Path, size: InputSize) -> Trained:
    """Return the result of a training run, as a graph for an input of `size`.

    Raises InputError when the file is not a checkpoint or was made from other weights.
    """
    stored = _read(path)
    config = _config(stored)
    graph = build(weights, stored["groups"], config.rank, size)
    if config.weights_sha256 != tracking.hash_of([weights]):
        raise InputError(f"{path} was made from other weights than {weights}, or from renamed ones")
    _fill(graph, stored["average"], path)
    return Trained(config, graph, _ranges(stored), stored["step"])


def _fill(graph: Graph, weights: Mapping[str, Tensor], path: Path) -> None:
    if graph.state_dict().keys() != weights.keys():
        raise InputError(
            f"{path} was made by another version of edge-tools; train again to another --output"
        )
    graph.load_state_dict(weights)


def as_params(config: DetectTraining) -> dict[str, Any]:
    """Return a config's fields as parameters for the experiment tracker."""
    return asdict(config) | {"size": str(config.size)}


def described(config: DetectTraining, step: int) -> dict[str, str]:
    """Return the training entries of a model's manifest after `step` steps."""
    return {
        "method": f"quantization-aware training, {step} steps of {config.batch} pictures at "
        f"{config.size}, distilled from the float original, weights averaged; "
        f"{stem_text(config.groups, config.rank)}, ranges of percentile {config.percentile:g}",
        "data": f"training pictures, for int8 without labels; at most {config.calibration} of "
        "them for the ranges",
    }


def stem_text(groups: int, rank: int) -> str:
    """Return how a quantized network's stem differs from the float one, for people."""
    parts = "in one" if groups == 1 else f"in {groups} groups"
    inside = "" if rank == yolox.BLOCK_CHANNELS else f", separable, with {rank} channels inside"
    return f"stem {parts}{inside}"


def _config(stored: dict[str, Any]) -> DetectTraining:
    plain = stored["config"]
    return DetectTraining(**plain | {"size": InputSize(*plain["size"])})


def _ranges(stored: dict[str, Any]) -> dict[str, Quantization]:
    return {name: Quantization(*item) for name, item in stored["ranges"].items()}


def _read(path: Path) -> dict[str, Any]:
    return tensor_file.read(path, ("config", "groups", "ranges"), "train detect-int8")
