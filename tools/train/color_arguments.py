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
    option,
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
    option(parser, "--output", Path, Path("runs/color"), "checkpoint folder")
    _declare_learning(parser)
    _declare_samples(parser)
    _declare_network(parser)
    option(parser, "--threads", count, 1, "CPU threads of PyTorch and of the teachers")
    option(parser, "--device", usable_device, "cpu", "cpu, cuda, mps …")
    tracking.add_argument(parser)


def _declare_learning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="CHECKPOINT",
        help="start from this network, with its architecture; only --input and --expansions may "
        "differ",
    )
    option(parser, "--epochs", count, ColorTraining.epochs, "passes over the crops")
    option(parser, "--seed", seed, ColorTraining.seed, "of weights, order and augmentation")
    option(parser, "--learning-rate", positive, ColorTraining.learning_rate, "at its peak")
    option(
        parser,
        "--trunk-rate",
        positive_or_zero,
        ColorTraining.trunk_rate,
        "factor of the learning rate for a pretrained trunk",
        metavar="FACTOR",
    )
    option(
        parser,
        "--emphasis",
        share_or_all,
        ColorTraining.emphasis,
        "share of a soft target that is moved to its leading term",
        metavar="SHARE",
    )
    parser.add_argument(
        "--teacher",
        type=model_kind.folder_of,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models to distil from, also on the unlabelled boxes of detection/train",
    )


def _declare_samples(parser: argparse.ArgumentParser) -> None:
    option(
        parser,
        "--hold-out",
        share,
        ColorTraining.hold_out,
        "share of the pictures to measure on, not to train on; 0: train on all",
        metavar="SHARE",
    )
    option(
        parser,
        "--hold-from",
        share,
        ColorTraining.hold_from,
        "where the held-out share begins, 0..1: folds have different starts",
        metavar="START",
    )
    option(
        parser,
        "--composites",
        count_or_zero,
        ColorTraining.composites,
        "additional crops: cut-out objects with other colors, light and background",
        metavar="COUNT",
    )
    option(
        parser,
        "--swatches",
        count_or_zero,
        ColorTraining.swatches,
        "additional rendered crops of one plain color each",
        metavar="COUNT",
    )
    option(
        parser,
        "--white-balance",
        positive_or_zero,
        Augmentation.balance,
        "standard deviation of each channel's log gain in augmentation",
        metavar="DEVIATION",
    )
    option(
        parser,
        "--cutmix",
        share_or_all,
        Augmentation.cutmix,
        "share of the crops that get a piece of another crop and its target",
        metavar="SHARE",
    )


def _declare_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trunk",
        choices=get_args(Trunk),
        help=f"feature extractor; default: {ColorArchitecture.trunk}",
    )
    parser.add_argument(
        "--blocks",
        type=int,
        choices=range(5, ColorArchitecture.blocks + 1),
        metavar="N",
        help=f"of a pretrained trunk, 5 to {ColorArchitecture.blocks}; default: all",
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
        help=f"side, a multiple of 16; default: {ColorArchitecture.input_px}",
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
        help="of the path of plain colors beside a pretrained trunk; default: 0, none",
    )


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
