"""The options of `edge-tools train color`, and the training config made of them."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from tools import model_kind, tracking
from tools.architectures.color import ColorArchitecture, Trunk
from tools.arguments import (
    count,
    count_or_zero,
    positive,
    positive_or_zero,
    seed,
    share,
    share_or_all,
)
from tools.train import commands
from tools.train.color_augment import Augmentation
from tools.train.color_state import (
    CHECKPOINT,
    ColorTraining,
    load_network,
    refuse_other_architecture,
)
from tools.train.device import usable_device

SIDE_STEP = 16  # of the input's side


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument("--data", type=Path, required=True, help="folder with color/, scene_color/")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/color"),
        help="checkpoint folder; default: %(default)s",
    )
    parser.add_argument(
        "--epochs", type=count, default=ColorTraining.epochs, help="default %(default)s"
    )
    parser.add_argument(
        "--seed", type=seed, default=ColorTraining.seed, help="of weights, order and augmentation"
    )
    parser.add_argument(
        "--learning-rate",
        type=positive,
        default=ColorTraining.learning_rate,
        help="at its peak; default %(default)s",
    )
    parser.add_argument(
        "--trunk-rate",
        type=positive_or_zero,
        default=ColorTraining.trunk_rate,
        metavar="FACTOR",
        help="factor of the learning rate for a pretrained trunk; default %(default)s",
    )
    parser.add_argument(
        "--emphasis",
        type=share_or_all,
        default=ColorTraining.emphasis,
        metavar="SHARE",
        help="share of a soft target that is moved to its leading term; default 0",
    )
    parser.add_argument(
        "--hold-out",
        type=share,
        default=ColorTraining.hold_out,
        metavar="SHARE",
        help="share of the pictures to measure on, not to train on; default 0: train on all",
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
        type=count_or_zero,
        default=ColorTraining.composites,
        metavar="COUNT",
        help="additional crops: cut-out objects with other colors, light and background; default 0",
    )
    parser.add_argument(
        "--swatches",
        type=count_or_zero,
        default=ColorTraining.swatches,
        metavar="COUNT",
        help="additional rendered crops of one plain color each; default %(default)s",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="CHECKPOINT",
        help="start from this network, with its architecture; only --input and --expansions may "
        "differ",
    )
    parser.add_argument(
        "--white-balance",
        type=positive_or_zero,
        default=Augmentation.balance,
        metavar="DEVIATION",
        help="standard deviation of each channel's log gain in augmentation; default %(default)s",
    )
    parser.add_argument(
        "--cutmix",
        type=share_or_all,
        default=Augmentation.cutmix,
        metavar="SHARE",
        help="share of the crops that get a piece of another crop and its target; default 0",
    )
    parser.add_argument(
        "--trunk",
        choices=get_args(Trunk),
        help=f"feature extractor; default {ColorArchitecture.trunk}",
    )
    parser.add_argument(
        "--blocks",
        type=int,
        choices=range(5, ColorArchitecture.blocks + 1),
        metavar="N",
        help=f"of a pretrained trunk, 5 to {ColorArchitecture.blocks}; default all",
    )
    parser.add_argument(
        "--expansions",
        type=int,
        choices=range(1, 7),
        nargs=5,
        metavar="N",
        help="of a pretrained trunk's blocks by stage; fewer than 1 6 6 6 6 are pruned",
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
        type=model_kind.folder_of,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models to distil from, also on the unlabelled boxes of detection/train",
    )
    parser.add_argument(
        "--widths",
        type=count_or_zero,
        nargs=3,
        metavar="N",
        help="channels of the residual trunk's three parts; the last also before the pooling",
    )
    parser.add_argument(
        "--depths",
        type=count_or_zero,
        nargs=3,
        metavar="N",
        help="blocks of the residual trunk's three parts",
    )
    parser.add_argument(
        "--colors",
        type=count_or_zero,
        metavar="CHANNELS",
        help="of the path of plain colors beside a pretrained trunk; default 0: none",
    )
    parser.add_argument(
        "--threads",
        type=count,
        default=1,
        help="CPU threads of PyTorch and of the teachers; default %(default)s",
    )
    parser.add_argument("--device", type=usable_device, default="cpu", help="cpu, cuda, mps …")
    tracking.add_argument(parser)


def config_of(args: argparse.Namespace) -> ColorTraining:
    """Return the run's config; InputError where a named checkpoint cannot be read."""
    found = load_network(args.weights)[0].architecture if args.weights else ColorArchitecture()
    options = {one.name: getattr(args, one.name, None) for one in fields(ColorArchitecture)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if value is not None
    }
    architecture = replace(found, **given)
    if args.weights:
        refuse_other_architecture(args.weights, found, architecture)
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
        composites=args.composites,
        swatches=args.swatches,
        weights_sha256=tracking.hash_of([args.weights]) if args.weights else "",
        commands=commands.in_order(
            commands.of_file(args.weights, "train color") if args.weights else (),
            commands.of_file(args.output / CHECKPOINT, "train color"),
            (args.command,),
        ),
    )


def _side(text: str) -> int:
    if not text.isdecimal() or int(text) < SIDE_STEP or int(text) % SIDE_STEP:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of {SIDE_STEP}")
    return int(text)
