"""A detector's training run on disk: its config, and a checkpoint that a run can go on from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from edge.errors import InputError
from tools import tensor_file, tracking
from tools.architectures import yolox
from tools.input_size import InputSize
from tools.quantize import Graph, Quantization, trace
from tools.train.steps import refuse_other_config, relative_adam

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class DetectTraining:
    """One run.

    size: of the input. groups: of the stem, with scales of their own. percentile: of the
    activation ranges, which stay fixed. batch: pictures a step.
    learning_rate: relative to each tensor's root mean square; one flat rate diverges.
    ema: share of the moving average that a step keeps. seed: of order and augmentation.
    is_mirrored: whether the teacher looks at mirror images, too.
    weights_sha256, data_sha256, val_sha256: of the float weights and of the JSON of the sets that
        it learns from and is measured on.
    """

    size: InputSize = InputSize(352, 288)  # noqa: RUF009 - immutable
    groups: int = 2
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


@dataclass
class State:
    """What a checkpoint holds; `average` is the exponential moving average of `graph`.

    groups: channels of the stem's branches. labels: of the class outputs.
    origin: of the float weights.
    step: finished ones. best: AP50 of the best average, -1 before it is measured.
    bad: measurements since then.
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
    """A run's moving average and the ranges it was trained with.

    The ranges serve other input sizes too: at 416 those of a run at 320 gave .552 AP50 on
    detection/val, ranges measured anew .541.
    """

    config: DetectTraining
    graph: Graph
    ranges: dict[str, Quantization]
    step: int


def build(weights: Path, groups: list[list[int]], size: InputSize) -> Graph:
    """Return the trainable graph of YOLOX-Nano with its float weights."""
    return trace(yolox.load(weights, groups)).with_shapes((3, size.height, size.width))


def save(config: DetectTraining, state: State, path: Path) -> None:
    """Write a checkpoint; a kill in between leaves the one before."""
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
    """Return the checkpoint's state.

    Raises InputError when the file is no checkpoint, or naming what differs when it was made with
    another config.
    """
    stored = _read(path)
    refuse_other_config(path, as_params(_config(stored)), as_params(config))
    graph = build(weights, stored["groups"], config.size)
    average = build(weights, stored["groups"], config.size)
    adam = relative_adam(graph, config.learning_rate)
    graph.load_state_dict(stored["graph"])
    average.load_state_dict(stored["average"])
    adam.load_state_dict(stored["optimizer"])
    ranges = _ranges(stored)
    labels = yolox.stored_labels(weights)
    step, best, bad = stored["step"], stored["best"], stored["bad"]
    origin = yolox.origin(weights)
    return State(graph, average, ranges, stored["groups"], labels, origin, adam, step, best, bad)


def trained(path: Path, weights: Path, size: InputSize) -> Trained:
    """Return what a run made, for an input of `size`.

    Raises InputError when the file is no checkpoint, or was made from other weights.
    """
    stored = _read(path)
    config = _config(stored)
    graph = build(weights, stored["groups"], size)
    if config.weights_sha256 not in {"", tracking.hash_of([weights])}:  # empty in earlier ones
        raise InputError(f"{path} was made from other weights than {weights}, or from renamed ones")
    graph.load_state_dict(stored["average"])
    return Trained(config, graph, _ranges(stored), stored["step"])


def as_params(config: DetectTraining) -> dict[str, Any]:
    """Return a config's fields as the experiment tracker holds them."""
    return asdict(config) | {"size": str(config.size)}


def described(config: DetectTraining, step: int) -> dict[str, str]:
    """Return what a manifest says of a run after `step` steps."""
    stem = "in one" if config.groups == 1 else f"in {config.groups} groups"
    return {
        "method": f"quantization-aware training, {step} steps of {config.batch} pictures at "
        f"{config.size}, distilled from the float original, weights averaged; stem {stem}, "
        f"ranges of percentile {config.percentile:g}",
        "data": f"training pictures, for int8 without labels; at most {config.calibration} of "
        "them for the ranges",
    }


def _config(stored: dict[str, Any]) -> DetectTraining:
    plain = dict(stored["config"])
    return DetectTraining(**plain | {"size": InputSize(*plain["size"])})


def _ranges(stored: dict[str, Any]) -> dict[str, Quantization]:
    return {name: Quantization(*item) for name, item in stored["ranges"].items()}


def _read(path: Path) -> dict[str, Any]:
    return tensor_file.read(path, ("config", "groups", "ranges"), "train detect-int8")
