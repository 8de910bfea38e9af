"""Train the color network: `edge-tools train color --data ../shared/data --output runs/color`.

A checkpoint is written after each epoch. Started again with the same config and folder, a run
continues after the last one and ends with the same weights as an uninterrupted run, because every
epoch seeds its random generators. The result is the moving average of the weights (`ema`).
Validation crops are for choosing between runs; they are not trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import InputError, UsageError
from tools import json_file, tracking
from tools.architectures.color import OUTPUT, ColorArchitecture, ColorNet
from tools.color.data import arrays, dataset
from tools.color.data.arrays import Packed
from tools.color.data.dataset import ColorItem
from tools.progress import track
from tools.train import color_arguments, color_composites, color_swatches, color_teacher
from tools.train.color_answers import top1
from tools.train.color_augment import (
    augment,
    cut_and_mixed,
    seed_generators,
    with_classes,
    withhold,
)
from tools.train.color_state import (
    CHECKPOINT,
    ColorTraining,
    State,
    parameter_count,
    resume,
    save,
    start,
)
from tools.train.color_teacher import NO_TEACHERS, Teachers
from tools.train.divergence import refuse_divergence
from tools.train.steps import METRICS_FILE

EXAMPLES = """\
examples (started again, each resumes where it stopped):
  edge-tools train color --data ../shared/data --output runs/accurate --trunk efficientnet-lite0 \\
      --colors 64 --input 128 --widths 0 0 128 --epochs 12
  edge-tools train color --data ../shared/data --output runs/fast --trunk efficientnet-lite0 \\
      --colors 32 --blocks 7 --input 96 --widths 0 0 88 --learning-rate 6e-3 --epochs 12 \\
      --teacher models/color-160
"""
logger = logging.getLogger(__name__)

STORED = 1.5  # side of a cached crop with its margin, in sides of the network's input
MARGIN = 0.15  # of the box, kept around it so that jitter finds real pixels


@dataclass(frozen=True)
class Beside:
    """What a run has beside its crops: teachers that are asked about them, the tracker's record."""

    teachers: Teachers = NO_TEACHERS
    record: tracking.Run = tracking.UNRECORDED


NOTHING = Beside()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    color_arguments.declare(parser)


def run(args: argparse.Namespace) -> int:
    """Train and write `checkpoint.pt` and `metrics.jsonl` into the output folder."""
    torch.set_num_threads(args.threads)
    config = color_arguments.config_of(args)
    size = config.architecture
    _check_options(args, size)
    cache = args.output.parent / "cache"
    known, agreed = dataset.training_items(args.data), dataset.validation_items(args.data)
    config = replace(config, labels_sha256=labels_digest(known))
    items, held = dataset.hold_out(known, args.hold_out, args.hold_from)
    args.output.mkdir(parents=True, exist_ok=True)
    teachers = Teachers(args.teacher, args.threads)
    config = replace(config, teachers=teachers.names)
    stored_px = round(STORED * max(size.input_px, teachers.side_px))
    painted = color_composites.pack(items, args.composites, stored_px, MARGIN, args.seed, cache)
    plain = color_swatches.pack(args.swatches, stored_px, args.seed)
    if args.teacher:
        further = color_teacher.unlabelled(known, args.data)
        items += dataset.by_picture(further, args.hold_out, args.hold_from)[0]
    packed = arrays.joined(arrays.pack_cached(items, stored_px, MARGIN, cache), painted, plain)
    checks = validation_sets(agreed, held, size.input_px, cache)
    if args.weights and not (args.output / CHECKPOINT).exists():
        save(config, start(config, args.device, args.weights), args.output / CHECKPOINT)
    with tracking.start(
        "color",
        params=asdict(config),
        uri=args.tracking_uri,
        data=sorted(args.data.glob("*color/*.json")),
        folder=args.output,
    ) as record:
        beside = Beside(teachers, record)
        state = train(config, packed, checks, args.output, args.device, beside)
    weights = parameter_count(state.average)
    print(f"{args.output / CHECKPOINT}: {state.epoch} epochs, {weights} weights")
    return 0


def _check_options(args: argparse.Namespace, size: ColorArchitecture) -> None:
    """Raise UsageError for options that the trunk does not have, or that leave it no channels."""
    for option in ("blocks", "expansions"):
        if getattr(args, option) and size.trunk == "residual":
            raise UsageError(f"--{option} needs a pretrained trunk; add --trunk efficientnet-lite0")
    if not all(size.widths if size.trunk == "residual" else size.widths[2:]):
        widths = " ".join(map(str, size.widths))
        raise UsageError(f"--widths {widths} leaves --trunk {size.trunk} no channels")


def labels_digest(items: Sequence[ColorItem]) -> str:
    """Return a hash of the labels of crops, wherever their pictures are stored."""
    digest = hashlib.sha256()
    for item in items:
        shares = [f"{share:.6f}" for share in item.shares]
        facts = (item.file.name, item.box_px, item.object_class, shares, f"{item.weight:.6f}")
        digest.update(os.fsencode(str(facts)))
    return digest.hexdigest()


def validation_sets(
    items: list[ColorItem], held: list[ColorItem], side: int, cache: Path
) -> dict[str, Packed]:
    """Return sets of validation crops, without margin as in the daemon, by name.

    The sets: each source, objects that all labellers were sure of, held-out objects (`held`), both
    kinds of scene objects without their class, and rendered crops of one plain color each.
    """
    sources = sorted({item.source for item in items})
    chosen = {name: [item for item in items if item.source == name] for name in sources}
    chosen["sure"] = [item for item in items if item.source == "scene" and item.is_sure]
    chosen["held out"] = held
    chosen["held out, no class"] = [replace(item, object_class=None) for item in held]
    chosen["no class"] = [replace(item, object_class=None) for item in chosen.get("scene", [])]
    packed = {
        name: arrays.pack_cached(some, side, 0.0, cache) for name, some in chosen.items() if some
    }
    return packed | {"plain": color_swatches.measured(side)}


def train(
    config: ColorTraining,
    packed: Packed,
    checks: dict[str, Packed],
    out: Path,
    device: torch.device,
    beside: Beside = NOTHING,
) -> State:
    """Train from the folder's checkpoint, or from the beginning, to the config's last epoch.

    Raises InputError when the checkpoint was made with another config, or there is one crop only;
    EdgeError when the training diverges: the epochs before stay.
    """
    if len(packed.rgb) < 2:
        raise InputError("one crop is too few to train on; label more")
    out.mkdir(parents=True, exist_ok=True)
    state = resume(config, out / CHECKPOINT, device)
    steps = len(_batches(len(packed.rgb), config.batch)) * config.epochs
    while state.epoch < config.epochs:
        loss = train_epoch(config, state, packed, steps, device, beside.teachers)
        refuse_divergence(loss, f"in epoch {state.epoch}")
        accuracy = {name: top1(state.average, check, device) for name, check in checks.items()}
        logger.info("train.epoch number=%d loss=%.4f top1=%s", state.epoch, loss, accuracy)
        save(config, state, out / CHECKPOINT)
        row = {"epoch": state.epoch, "loss": loss, "top1": accuracy}
        json_file.add_line(row, out / METRICS_FILE)
        top1s = {f"top1 {name}": value for name, value in accuracy.items()}
        beside.record.metrics(state.epoch, loss=loss, **top1s)
    return state


def train_epoch(
    config: ColorTraining,
    state: State,
    packed: Packed,
    steps: int,
    device: torch.device,
    teachers: Teachers = NO_TEACHERS,
) -> float:
    """Run one epoch and return its mean loss.

    steps: of the whole run, for the learning rate.
    """
    seed_generators(config.seed * 100_003 + state.epoch)
    state.network.train()
    total = 0.0
    batches = _batches(len(packed.rgb), config.batch)
    for indices in track(batches, f"epoch {state.epoch + 1}"):
        rate = learning_rate(config, state.step, steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = _loss(config, state.network, packed, indices, device, teachers)
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
        state.optimizer.step()
        state.step += 1
        _follow(state.average, state.network, min(config.ema, state.step / (state.step + 10)))
        total += float(loss.detach())
    state.epoch += 1
    return total / len(batches)


def _batches(crops: int, size: int) -> list[Tensor]:
    # A batch of one crop is left out: batch normalization needs two.
    return [batch for batch in torch.split(torch.randperm(crops), size) if len(batch) > 1]


def _loss(
    config: ColorTraining,
    network: ColorNet,
    packed: Packed,
    indices: Tensor,
    device: torch.device,
    teachers: Teachers,
) -> Tensor:
    """Return the weighted soft cross entropy of one augmented batch."""
    rows, size = indices.numpy(), config.architecture
    shares = torch.from_numpy(packed.shares[rows]).to(device)
    weights = torch.from_numpy(packed.weights[rows]).to(device)
    leading = functional.one_hot(shares.argmax(1), shares.shape[1])
    targets = shares + config.emphasis * (leading - shares)
    pixels, classes = _augmented(
        config, packed, indices, device, max(size.input_px, teachers.side_px)
    )
    if teachers.names:
        taught = teachers.shares(pixels, classes)
        targets = color_teacher.mixed(targets, taught, config.teacher_share)
        pixels = color_teacher.resized(pixels, size.input_px)
    targets = targets * (1 - config.smoothing) + config.smoothing / shares.shape[1]
    planes = with_classes(pixels, classes, size.classes)
    planes, targets = cut_and_mixed(planes, targets, config.augmentation.cutmix)
    answers = network(planes)[OUTPUT]
    losses = functional.cross_entropy(answers, targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def inputs(config: ColorTraining, packed: Packed, indices: Tensor, device: torch.device) -> Tensor:
    """Return augmented crops as network inputs, (n, 3 + classes, side, side)."""
    size = config.architecture
    return with_classes(*_augmented(config, packed, indices, device, size.input_px), size.classes)


def _augmented(
    config: ColorTraining, packed: Packed, indices: Tensor, device: torch.device, side: int
) -> tuple[Tensor, Tensor]:
    """Return augmented crops, (n, 3, side, side), and their classes, some withheld."""
    rows = indices.numpy()
    rgb = torch.from_numpy(packed.rgb[rows]).to(device)
    boxes = torch.from_numpy(packed.boxes[rows]).to(device)
    classes = torch.from_numpy(packed.classes[rows]).to(device)
    steady = torch.from_numpy(packed.steady[rows]).to(device)
    pixels = augment(rgb, boxes, side, config.augmentation, steady)
    return pixels, withhold(classes, config.augmentation.class_dropout)


def learning_rate(config: ColorTraining, step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def _follow(average: ColorNet, network: ColorNet, keep: float) -> None:
    """Move the average towards the network; integer counters are copied."""
    current = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - keep)
        else:
            value.copy_(current[name])
