"""The state of a color network's int8 training: its config and its checkpoint on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from edge.errors import InputError
from tools import tensor_file, tracking
from tools.architectures.color import ColorArchitecture, ColorNet, WithCells
from tools.quantize import Graph, Quantization, trace
from tools.train.steps import refuse_other_config, relative_adam

COMMAND = "train color-int8"
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class ColorInt8Training:
    """One run.

    percentile: of the activation ranges, which stay fixed, measured on `calibration` crops.
    batch: crops a step. learning_rate: relative to each tensor's root mean square.
    ema: share of the moving average that a step keeps. seed: of order and augmentation.
    float_sha256: of the float network's checkpoint.
    commands: all that made it, the float network's first; see `ColorTraining`.
    """

    percentile: float = 100.0
    calibration: int = 512
    steps: int = 300
    batch: int = 64
    learning_rate: float = 7e-4
    warmup_steps: int = 20
    ema: float = 0.99
    seed: int = 1
    float_sha256: str = ""
    commands: tuple[str, ...] = field(default=(), compare=False)


@dataclass
class State:
    """What a checkpoint holds; `average` is the moving average of `graph`; step: finished ones."""

    graph: Graph
    average: Graph
    ranges: dict[str, Quantization]
    optimizer: torch.optim.Adam
    step: int = 0


def build(network: ColorNet, size: ColorArchitecture) -> Graph:
    """Return the trainable graph of a network, with copies of its weights."""
    return trace(WithCells(network)).with_shapes((3 + size.classes, size.input_px, size.input_px))


def start(
    config: ColorInt8Training,
    network: ColorNet,
    size: ColorArchitecture,
    ranges: dict[str, Quantization],
) -> State:
    """Return a run's state before its first step."""
    graph = build(network, size)
    adam = relative_adam(graph, config.learning_rate)
    return State(graph, build(network, size), ranges, adam)


def save(config: ColorInt8Training, state: State, path: Path) -> None:
    """Write a checkpoint; a kill in between leaves the one before."""
    content = {
        "config": asdict(config),
        "ranges": {name: (item.scale, item.zero_point) for name, item in state.ranges.items()},
        "graph": state.graph.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
    }
    tensor_file.write(content, path)


def resume(
    config: ColorInt8Training, network: ColorNet, size: ColorArchitecture, path: Path
) -> State:
    """Return the checkpoint's state.

    Raises InputError when it is no checkpoint of this network, or naming what differs when it was
    made with another config.
    """
    stored = _read(path)
    before = ColorInt8Training(**stored["config"])
    refuse_other_config(path, _options(before), _options(config))
    ranges = {name: Quantization(*item) for name, item in stored["ranges"].items()}
    state = start(config, network, size, ranges)
    try:
        state.graph.load_state_dict(stored["graph"])
        state.average.load_state_dict(stored["average"])
    except RuntimeError:
        raise InputError(
            f"{path} is of another network; name the float one it began with"
        ) from None
    state.optimizer.load_state_dict(stored["optimizer"])
    state.step = stored["step"]
    return state


def trained(
    path: Path, weights: Path, network: ColorNet, size: ColorArchitecture
) -> tuple[ColorInt8Training, State]:
    """Return the config and state of a finished or stopped run.

    weights: the float checkpoint, of `network`. Raises InputError when the run began with another
    one, and as `resume`.
    """
    config = ColorInt8Training(**_read(path)["config"])
    if config.float_sha256 != tracking.hash_of([weights]):
        raise InputError(f"{path} was made from other weights than {weights}, or from renamed ones")
    return config, resume(config, network, size, path)


def described(config: ColorInt8Training) -> str:
    """Return the description of a run for a manifest."""
    return (
        f"quantization-aware training, {config.steps} steps of {config.batch} crops, distilled "
        f"from the float network, weights averaged; ranges of percentile {config.percentile:g}, "
        f"{config.calibration} crops"
    )


def _options(config: ColorInt8Training) -> dict[str, Any]:
    """Return the fields that must be equal for a run to continue; commands may differ."""
    return {name: value for name, value in asdict(config).items() if name != "commands"}


def _read(path: Path) -> dict[str, Any]:
    stored = tensor_file.read(path, ("config", "ranges", "graph", "optimizer"), COMMAND)
    try:
        ColorInt8Training(**stored["config"])
    except TypeError:  # such as a checkpoint of the detector's, which has the same keys
        raise tensor_file.foreign(path, COMMAND) from None
    return stored
