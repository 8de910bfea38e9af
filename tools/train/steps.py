"""What the training runs share: the train-and-measure loop, optimizer, learning rate, average."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from edge.errors import InputError
from tools import json_file, tracking
from tools.dataset import Dataset
from tools.evaluate.accuracy import Accuracy
from tools.train.divergence import refuse_divergence

METRICS_FILE = "metrics.jsonl"
# Config fields whose command-line option has a different name.
OPTIONS = {
    "is_rectified": "--rectify",
    "rank": "--stem-rank",
    "is_mirrored": "--mirrored",
    "input_px": "--input",
    "teachers": "--teacher",
    "weights_sha256": "--weights",
    "data_sha256": "--train",
    "val_sha256": "--val",
    "labels_sha256": "--data",
    "float_sha256": "float checkpoint",
}
logger = logging.getLogger(__name__)


class Schedule(Protocol):
    """The part of a training config that `train_and_measure` reads."""

    @property
    def learning_rate(self) -> float:
        """Return the peak learning rate, relative to each tensor's root mean square."""
        ...

    @property
    def steps(self) -> int:
        """Return the number of the run's steps."""
        ...

    @property
    def warmup_steps(self) -> int:
        """Return the number of steps over which the learning rate rises to its peak."""
        ...

    @property
    def batch(self) -> int:
        """Return the number of pictures per step."""
        ...


class Progress(Protocol):
    """How far a training run has come.

    step: steps done. best: AP50 of the best averaged weights so far, -1 before the first
    measurement, NaN when the validation set has no objects. bad: measurements since the best one.
    """

    step: int
    best: float
    bad: int


@dataclass(frozen=True)
class Callbacks:
    """What `train_and_measure` calls in each round.

    train: run that many steps and return the mean loss. measure: return the accuracy of the
    averaged weights. keep: store the weights measured last as the best. save: write the checkpoint.
    """

    train: Callable[[int], float]
    measure: Callable[[], Accuracy]
    keep: Callable[[], None]
    save: Callable[[], None]


def train_and_measure(
    args: argparse.Namespace,
    schedule: Schedule,
    state: Progress,
    callbacks: Callbacks,
    record: tracking.Run,
) -> None:
    """Alternate training and measuring, to the last step or until AP50 stops improving.

    Where AP50 is NaN, the latest weights count as the best.
    args: `output` (folder), `every` (steps between measurements) and `patience` (measurements
    without improvement until training stops) of the command.
    Raises EdgeError when the training diverges; the best weights so far stay on disk.
    """
    while state.step < schedule.steps and state.bad < args.patience:
        steps = min(args.every - state.step % args.every, schedule.steps - state.step)
        began_s = time.monotonic()
        loss = callbacks.train(steps)
        refuse_divergence(loss, f"by step {state.step}")
        images_per_s = steps * schedule.batch / (time.monotonic() - began_s)
        beside = _figures(schedule, state.step, loss, images_per_s)
        measured = callbacks.measure()
        _log_measurement(args.output, state.step, beside, measured)
        state.bad += 1
        if measured.ap50 > state.best or math.isnan(measured.ap50):
            state.best, state.bad = measured.ap50, 0
            callbacks.keep()
        record.metrics(state.step, **beside, ap=measured.ap, ap50=measured.ap50)
        callbacks.save()
    if state.step < schedule.steps:
        logger.info(
            "train.ended_early step=%d of=%d: no gain in --patience %d measurements; "
            "started again with a larger one, it goes on",
            state.step,
            schedule.steps,
            args.patience,
        )
    record.artifact(args.output / METRICS_FILE)


def refuse_other_config(
    checkpoint: Path, before: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Raise InputError naming the differing options when a checkpoint belongs to another run.

    before: config fields stored in the checkpoint. config: config fields of this run.
    """
    names = [name for name in {**config, **before} if before.get(name) != config.get(name)]
    if names:
        options = ", ".join(option_text(name, before.get(name)) for name in names)
        raise InputError(
            f"{checkpoint} was made with another config: {options}; name another --output"
        )


def warn_without_objects(validation: Dataset) -> None:
    """Log a warning when the validation set has no objects: AP is then NaN and ranks nothing."""
    if all(item.get("iscrowd", 0) for item in validation.annotations):
        logger.warning("train.no_objects set=%s kept=the last weights, as best", validation.name)


def relative_adam(
    net: nn.Module, learning_rate: float, *, of_zeros: float = 0.0
) -> torch.optim.Adam:
    """Return Adam with one learning rate per tensor: `learning_rate` times its root mean square.

    of_zeros: value to assume for each zero; a tensor of zeros alone would otherwise never change.
    Each parameter group has a key `peak`, which `set_rates` multiplies.
    """
    peaks = [
        learning_rate * float(values.where(values != 0, of_zeros).square().mean().sqrt()) + 1e-7
        for values in map(torch.Tensor.detach, net.parameters())
    ]
    groups = [
        {"params": [tensor], "lr": peak, "peak": peak}
        for tensor, peak in zip(net.parameters(), peaks, strict=True)
    ]
    return torch.optim.Adam(groups)


def set_rates(optimizer: torch.optim.Adam, factor: float) -> None:
    """Set the learning rates of a `relative_adam` optimizer to `factor` times their peaks."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up, then cosine decay to 0.05."""
    rise = min((step + 1) / warmup_steps, 1.0)
    return rise * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def update_average(average: nn.Module, net: nn.Module, step: int, decay: float) -> None:
    """Update the exponential moving average of the network's weights, in place.

    step: steps done. decay: share that the average keeps; a smaller one in the first steps.
    """
    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for own, current in zip(average.parameters(), net.parameters(), strict=True):
            own.lerp_(current, 1 - keep)


def option_text(name: str, value: Any) -> str:
    """Return a command-line option with its value, for a message.

    value: the config field's value; None or empty when unknown.
    """
    option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if value in (None, ""):  # a checkpoint older than this field
        return f"an unknown {option}"
    if isinstance(value, bool):
        return option if value else f"no {option}"
    if name.endswith("_sha256"):
        return f"another {option}"
    return f"{option} {','.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _figures(schedule: Schedule, step: int, loss: float, images_per_s: float) -> dict[str, float]:
    """Return mean loss, latest learning rate and training speed, by name.

    step: steps done, 1 or more.
    """
    factor = rate_factor(step - 1, schedule.steps, schedule.warmup_steps)
    rate = schedule.learning_rate * factor
    return {"loss": loss, "learning_rate": rate, "images_per_s": images_per_s}


def _log_measurement(out: Path, step: int, beside: dict[str, float], measured: Accuracy) -> None:
    """Append a measurement to the run's `metrics.jsonl` and log it. beside: from `_figures`."""
    json_file.add_line({"step": step} | beside | asdict(measured), out / METRICS_FILE)
    logger.info(
        "train.measured step=%d loss=%.4f ap50=%.4f images_per_s=%.1f",
        step,
        beside["loss"],
        measured.ap50,
        beside["images_per_s"],
    )
