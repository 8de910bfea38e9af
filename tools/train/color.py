"""Train the color network: `edge-tools train color --data ../shared/data --out runs/color`.

Reads top to bottom: config, data, one epoch after another, a checkpoint after each. Started again
with the same config and folder, it goes on where it stopped and ends with the same weights as an
uninterrupted run: every epoch seeds its generators anew. What is kept is the moving average of
the weights (`ema`). Validation images choose between runs; nothing of them is trained on.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import EXIT_USAGE, EdgeError, InputError
from tools import color_data, tracking
from tools.architectures.color import OUTPUT, ColorArchitecture, ColorNet, Trunk
from tools.arguments import (
    count,
    count_or_none,
    positive,
    positive_or_none,
    seed,
    share,
    share_or_all,
)
from tools.color_data import ColorItem, Packed
from tools.train import color_composites, color_swatches, color_teacher, commands
from tools.train.color_answers import top1
from tools.train.color_augment import (
    Augmentation,
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
    load_network,
    parameter_count,
    resume,
    save,
    start,
)
from tools.train.device import usable_device

EXAMPLES = """\
examples (started again, each goes on where it stopped):
  edge-tools train color --data ../shared/data --out runs/accurate --trunk efficientnet-lite0 \\
      --colors 64 --input 128 --widths 0 0 128 --epochs 12
  edge-tools train color --data ../shared/data --out runs/fast --trunk efficientnet-lite0 \\
      --colors 64 --stages 3 --input 96 --widths 0 0 96 --learning-rate 6e-3 --epochs 12 \\
      --teacher runs/accurate/checkpoint.pt
"""
logger = logging.getLogger(__name__)

SIDE_STEP = 16  # of the input's side
STORED = 1.5  # side of a cached crop with its margin, in sides of the network's input
MARGIN = 0.15  # of the box, kept around it so that jitter finds real pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--data", type=Path, required=True, help="folder with color/, scene_color/")
    parser.add_argument("--out", type=Path, default=Path("runs/color"), help="checkpoint folder")
    parser.add_argument(
        "--epochs", type=count, default=ColorTraining.epochs, help="default %(default)s"
    )
    parser.add_argument(
        "--seed", type=seed, default=ColorTraining.seed, help="of weights, order and augmentation"
    )
    parser.add_argument(
        "--learning-rate", type=positive, default=ColorTraining.learning_rate, help="peak"
    )
    parser.add_argument(
        "--trunk-rate",
        type=positive_or_none,
        default=ColorTraining.trunk_rate,
        metavar="FACTOR",
        help="of the learning rate, for a pretrained trunk",
    )
    parser.add_argument(
        "--emphasis",
        type=share_or_all,
        default=ColorTraining.emphasis,
        metavar="SHARE",
        help="of a soft target that goes to its leading term; default 0",
    )
    parser.add_argument(
        "--hold-out",
        type=share,
        default=ColorTraining.hold_out,
        metavar="SHARE",
        help="of the pictures, to compare runs on; default 0: train on all",
    )
    parser.add_argument(
        "--hold-from",
        type=share,
        default=ColorTraining.hold_from,
        metavar="START",
        help="where the held-out share begins, 0..1: folds have different starts; default 0",
    )
    parser.add_argument(
        "--composites",
        type=count_or_none,
        default=ColorTraining.composites,
        metavar="COUNT",
        help="further crops: cut-out objects in other colors, light and places; default 0",
    )
    parser.add_argument(
        "--swatches",
        type=count_or_none,
        default=ColorTraining.swatches,
        metavar="COUNT",
        help="further crops of one plain color each; default %(default)s",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with this network in place of a new one, and be of its architecture",
    )
    parser.add_argument(
        "--white-balance",
        type=positive_or_none,
        default=Augmentation.balance,
        metavar="DEVIATION",
        help="of the log gain of each channel, in augmentation; default %(default)s",
    )
    parser.add_argument(
        "--cutmix",
        type=share_or_all,
        default=Augmentation.cutmix,
        metavar="SHARE",
        help="of the crops, whose piece comes from another with its share of the target; default 0",
    )
    parser.add_argument(
        "--trunk",
        choices=get_args(Trunk),
        help=f"what makes the features; default {ColorArchitecture.trunk}",
    )
    parser.add_argument(
        "--stages",
        type=int,
        choices=(3, 4, 5),
        help=f"of a pretrained trunk; default {ColorArchitecture.stages}",
    )
    parser.add_argument(
        "--input",
        type=_side,
        dest="input_px",
        metavar="PX",
        help=f"side, a multiple of 16; default {ColorArchitecture.input_px}",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        default=[],
        metavar="CHECKPOINT",
        help="learn from what these say, also of the unlabelled boxes of detection/train",
    )
    parser.add_argument(
        "--widths",
        type=count_or_none,
        nargs=3,
        metavar="N",
        help="channels of the residual trunk's three parts; the last also before the pooling",
    )
    parser.add_argument(
        "--depths",
        type=count_or_none,
        nargs=3,
        metavar="N",
        help="blocks of the residual trunk's three parts",
    )
    parser.add_argument(
        "--colors",
        type=count_or_none,
        metavar="CHANNELS",
        help="of the path of plain colors beside a pretrained trunk; default 0: none",
    )
    parser.add_argument("--threads", type=count, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--device", type=usable_device, default="cpu", help="cpu, cuda, mps …")
    parser.add_argument("--tracking-uri", help="MLflow server or store; see the guide")


def _side(text: str) -> int:
    if not text.isdecimal() or int(text) < SIDE_STEP or int(text) % SIDE_STEP:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of {SIDE_STEP}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Train and write `checkpoint.pt` and `metrics.jsonl` into the output folder."""
    torch.set_num_threads(args.threads)
    config = _config(args)
    size = config.architecture
    if not all(size.widths if size.trunk == "residual" else size.widths[2:]):
        told = f"--widths {' '.join(map(str, size.widths))} leaves --trunk {size.trunk} no channels"
        print(f"edge-tools train color: {told}", file=sys.stderr)
        return EXIT_USAGE
    cache = args.out.parent / "cache"
    known, agreed = color_data.training_items(args.data), color_data.validation_items(args.data)
    items, held = color_data.hold_out(known, args.hold_out, args.hold_from)
    args.out.mkdir(parents=True, exist_ok=True)
    stored_px = round(STORED * size.input_px)
    painted = color_composites.pack(items, args.composites, stored_px, MARGIN, args.seed, cache)
    plain = color_swatches.pack(args.swatches, stored_px, args.seed)
    if args.teacher:
        items = color_teacher.taught(items, args.data, args.teacher, config.teacher_share, cache)
        # Nor boxes of held-out pictures.
        items, _ = color_data.by_picture(items, args.hold_out, args.hold_from)
    packed = color_data.joined(
        color_data.pack_cached(items, stored_px, MARGIN, cache), painted, plain
    )
    checks = validation_sets(agreed, held, size.input_px, cache)
    if args.weights and not (args.out / CHECKPOINT).exists():
        save(config, start(config, args.device, args.weights), args.out / CHECKPOINT)
    with tracking.start(
        "color",
        params=asdict(config),
        uri=args.tracking_uri,
        data=sorted(args.data.glob("*color/*.json")),
        folder=args.out,
    ) as record:
        state = train(config, packed, checks, args.out, args.device, record)
    print(
        f"{args.out / CHECKPOINT}: {state.epoch} epochs, {parameter_count(state.average)} weights"
    )
    return 0


def _config(args: argparse.Namespace) -> ColorTraining:
    found = load_network(args.weights)[0].architecture if args.weights else ColorArchitecture()
    options = {one.name: getattr(args, one.name, None) for one in fields(ColorArchitecture)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if value is not None
    }
    architecture = replace(found, **given)
    return ColorTraining(
        architecture=architecture,
        augmentation=Augmentation(balance=args.white_balance, cutmix=args.cutmix),
        epochs=args.epochs,
        seed=args.seed,
        learning_rate=args.learning_rate,
        trunk_rate=args.trunk_rate,
        emphasis=args.emphasis,
        hold_out=args.hold_out,
        hold_from=args.hold_from,
        teachers=len(args.teacher),
        composites=args.composites,
        swatches=args.swatches,
        weights_sha256=tracking.hash_of([args.weights]) if args.weights else "",
        commands=commands.in_order(
            *(commands.of_file(path, "train color") for path in (*_weights(args), *args.teacher)),
            commands.of_file(args.out / CHECKPOINT, "train color"),
            (args.command,),
        ),
    )


def _weights(args: argparse.Namespace) -> list[Path]:
    return [args.weights] if args.weights else []


def validation_sets(
    items: list[ColorItem], held: list[ColorItem], side: int, cache: Path
) -> dict[str, Packed]:
    """Return the validation crops as the runtime sees them, by source and by what is known.

    Beside them rendered ones of one plain color each.
    held: objects held out of the training set.
    """
    sources = sorted({item.source for item in items})
    chosen = {name: [item for item in items if item.source == name] for name in sources}
    chosen["sure"] = [item for item in items if item.source == "scene" and item.is_sure]
    chosen["held out"] = held
    chosen["held out, no class"] = [replace(item, object_class=None) for item in held]
    chosen["no class"] = [replace(item, object_class=None) for item in chosen.get("scene", [])]
    packed = {
        name: color_data.pack_cached(some, side, 0.0, cache)
        for name, some in chosen.items()
        if some
    }
    return packed | {"plain": color_swatches.measured(side)}


def train(
    config: ColorTraining,
    packed: Packed,
    checks: dict[str, Packed],
    out: Path,
    device: torch.device,
    record: tracking.Run = tracking.UNRECORDED,
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
        loss = train_epoch(config, state, packed, steps, device)
        if not math.isfinite(loss):
            told = f"in epoch {state.epoch} the loss became {loss}"
            raise EdgeError(f"{told}; give a lower --learning-rate and another --out")
        accuracy = {name: top1(state.average, check, device) for name, check in checks.items()}
        logger.info("train.epoch number=%d loss=%.4f top1=%s", state.epoch, loss, accuracy)
        save(config, state, out / CHECKPOINT)
        with (out / "metrics.jsonl").open("a") as log:
            log.write(json.dumps({"epoch": state.epoch, "loss": loss, "top1": accuracy}) + "\n")
        top1s = {f"top1 {name}": value for name, value in accuracy.items()}
        record.metrics(state.epoch, loss=loss, **top1s)
    return state


def train_epoch(
    config: ColorTraining, state: State, packed: Packed, steps: int, device: torch.device
) -> float:
    """Run one epoch and return its mean loss.

    steps: of the whole run, for the learning rate.
    """
    seed_generators(config.seed * 100_003 + state.epoch)
    state.network.train()
    total = 0.0
    batches = _batches(len(packed.rgb), config.batch)
    for indices in track(batches, f"epoch {state.epoch + 1}", transient=True):
        rate = learning_rate(config, state.step, steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = _loss(config, state.network, packed, indices, device)
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
    # One crop alone has no batch statistics.
    return [batch for batch in torch.split(torch.randperm(crops), size) if len(batch) > 1]


def _loss(
    config: ColorTraining, network: ColorNet, packed: Packed, indices: Tensor, device: torch.device
) -> Tensor:
    """Return the weighted soft cross entropy of one augmented batch."""
    rows = indices.numpy()
    shares = torch.from_numpy(packed.shares[rows]).to(device)
    weights = torch.from_numpy(packed.weights[rows]).to(device)
    leading = functional.one_hot(shares.argmax(1), shares.shape[1])
    targets = shares + config.emphasis * (leading - shares)
    targets = targets * (1 - config.smoothing) + config.smoothing / shares.shape[1]
    planes = inputs(config, packed, indices, device)
    planes, targets = cut_and_mixed(planes, targets, config.augmentation.cutmix)
    answers = network(planes)[OUTPUT]
    losses = functional.cross_entropy(answers, targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def inputs(config: ColorTraining, packed: Packed, indices: Tensor, device: torch.device) -> Tensor:
    """Return augmented crops as the network takes them, (n, 3 + classes, side, side)."""
    rows = indices.numpy()
    rgb = torch.from_numpy(packed.rgb[rows]).to(device)
    boxes = torch.from_numpy(packed.boxes[rows]).to(device)
    classes = torch.from_numpy(packed.classes[rows]).to(device)
    steady = torch.from_numpy(packed.steady[rows]).to(device)
    pixels = augment(rgb, boxes, config.architecture.input_px, config.augmentation, steady)
    known = withhold(classes, config.augmentation.class_dropout)
    return with_classes(pixels, known, config.architecture.classes)


def learning_rate(config: ColorTraining, step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def _follow(average: ColorNet, network: ColorNet, keep: float) -> None:
    """Move the average towards the network; counters are copied."""
    current = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - keep)
        else:
            value.copy_(current[name])
