"""Steps and rounds of a training, in float and through int8."""

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

from edge.errors import EdgeError, InputError
from tools import json_file, tracking
from tools.dataset import Dataset
from tools.evaluate import Accuracy

METRICS_FILE = "metrics.jsonl"
# The options of a config's fields that have another name.
OPTIONS = {
    "is_rectified": "--rectify",
    "is_mirrored": "--mirrored",
    "input_px": "--input",
    "teachers": "--teacher",
    "weights_sha256": "--weights",
    "data_sha256": "--train",
    "val_sha256": "--val",
}
logger = logging.getLogger(__name__)


class Schedule(Protocol):
    """What a training's config says of its steps and learning rate."""

    @property
    def learning_rate(self) -> float:
        """Return the highest, relative to each tensor's root mean square."""
        ...

    @property
    def steps(self) -> int:
        """Return the number of the run's steps."""
        ...

    @property
    def warmup_steps(self) -> int:
        """Return the number of steps in which the rate rises."""
        ...

    @property
    def batch(self) -> int:
        """Return the number of pictures a step."""
        ...


class Progress(Protocol):
    """How far a training is.

    step: finished ones. best: AP50 of the best average, -1 before one is measured, not a number
    where there is nothing to find. bad: measurements since then.
    """

    step: int
    best: float
    bad: int


@dataclass(frozen=True)
class Callbacks:
    """What a training does in a round.

    train: so many steps; returns the mean loss. measure: the average's accuracy. keep: what was
    measured last, as the best. save: the checkpoint.
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
    """Train and measure in turns, to the last step or until nothing improves.

    Where AP is no number, the last one is the best.
    args: the command's `out`, `every` and `patience`.
    Raises EdgeError when the training diverges: the best before stays.
    """
    while state.step < schedule.steps and state.bad < args.patience:
        steps = min(args.every - state.step % args.every, schedule.steps - state.step)
        began_s = time.monotonic()
        loss = callbacks.train(steps)
        refuse_divergence(loss, f"by step {state.step}")
        images_per_s = steps * schedule.batch / (time.monotonic() - began_s)
        beside = _figures(schedule, state.step, loss, images_per_s)
        measured = callbacks.measure()
        _note(args.out, state.step, beside, measured)
        state.bad += 1
        if measured.ap50 > state.best or math.isnan(measured.ap50):
            state.best, state.bad = measured.ap50, 0
            callbacks.keep()
        record.metrics(state.step, **beside, ap=measured.ap, ap50=measured.ap50)
        callbacks.save()
    record.artifact(args.out / METRICS_FILE)


def refuse_divergence(loss: float, when: str) -> None:
    """Raise EdgeError for a mean loss that is no finite number; when: for the message."""
    if not math.isfinite(loss):
        raise EdgeError(
            f"{when} the loss became {loss}; give a lower --learning-rate and another --out"
        )


def refuse_other_config(
    checkpoint: Path, before: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Raise InputError naming the options that differ where a checkpoint is of another run.

    before, config: the fields of the checkpoint's config and of this run's.
    """
    names = [name for name in {**config, **before} if before.get(name) != config.get(name)]
    if names:
        options = ", ".join(_option_text(name, before.get(name)) for name in names)
        raise InputError(
            f"{checkpoint} was made with another config: {options}; name another --out"
        )


def warn_without_objects(validation: Dataset) -> None:
    """Log where a set cannot say which weights are better: AP of no object is no number."""
    if all(item.get("iscrowd", 0) for item in validation.annotations):
        logger.warning("train.no_objects set=%s kept=the last weights, as best", validation.name)


def relative_adam(
    net: nn.Module, learning_rate: float, *, of_zeros: float = 0.0
) -> torch.optim.Adam:
    """Return Adam with a rate for each tensor, `learning_rate` of its root mean square.

    of_zeros: what is taken for that of a tensor of zeros, which else stays as it is.
    Its groups carry `peak`, which `set_rates` multiplies.
    """
    peaks = [
        learning_rate * (float(tensor.detach().square().mean().sqrt()) or of_zeros) + 1e-7
        for tensor in net.parameters()
    ]
    groups = [
        {"params": [tensor], "lr": peak, "peak": peak}
        for tensor, peak in zip(net.parameters(), peaks, strict=True)
    ]
    return torch.optim.Adam(groups)


def set_rates(optimizer: torch.optim.Adam, factor: float) -> None:
    """Give each of `relative_adam`'s tensors a share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Return the rate's factor: linear rise, then a cosine down to a twentieth."""
    rise = min((step + 1) / warmup_steps, 1.0)
    return rise * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def update_average(average: nn.Module, net: nn.Module, step: int, most: float) -> None:
    """Move the average towards the network (an exponential moving average).

    step: finished ones. most: share of itself that the average keeps, less in the first steps.
    """
    keep = min(most, (1 + step) / (10 + step))
    with torch.no_grad():
        for own, current in zip(average.parameters(), net.parameters(), strict=True):
            own.lerp_(current, 1 - keep)


def _option_text(name: str, value: Any) -> str:
    """Return how a run gave one of its options, in words.

    value: of the config's field; None or empty where it is not known.
    """
    option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if value in (None, ""):  # checkpoints before there was such a field
        return f"an unknown {option}"
    if isinstance(value, bool):
        return option if value else f"no {option}"
    if name.endswith("_sha256"):
        return f"another {option}"
    return f"{option} {','.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _figures(schedule: Schedule, step: int, loss: float, images_per_s: float) -> dict[str, float]:
    """Return a run's figures beside its accuracy: mean loss, last learning rate, speed.

    step: finished ones, 1 or more.
    """
    factor = rate_factor(step - 1, schedule.steps, schedule.warmup_steps)
    rate = schedule.learning_rate * factor
    return {"loss": loss, "learning_rate": rate, "images_per_s": images_per_s}


def _note(out: Path, step: int, beside: dict[str, float], measured: Accuracy) -> None:
    """Add a measurement to the run's `metrics.jsonl` and to the log; beside: see `_figures`."""
    json_file.add_line({"step": step} | beside | asdict(measured), out / METRICS_FILE)
    logger.info(
        "train.measured step=%d loss=%.4f ap50=%.4f images_per_s=%.1f",
        step,
        beside["loss"],
        measured.ap50,
        beside["images_per_s"],
    )
