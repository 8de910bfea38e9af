"""Converts a trained classifier to every level: `edge-tools quantize classifier RUN`.

Each level gets its own folder (`NQ`, `TL`, `F16`, `DR`, `FF`, `IO`) for `edge-tools evaluate
classifier`; `IO` is also a model folder with manifest and card. The pictures that calibrate the
ranges are taken from the training split, balanced by class; `--sweep` measures how their number
affects accuracy on the validation split. Started again, only missing levels are converted: a
level's description is written last and records what it was made from.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge import durable
from tools import arguments, tracking
from tools.arguments import option
from tools.classifier import (
    adapt,
    convert,
    data,
    description,
    folder,
    network,
    runtime,
    source,
    sweep,
)
from tools.classifier.adapt import Adaptation
from tools.classifier.description import Description
from tools.classifier.job import MADE_FROM, Job
from tools.progress import track

EXAMPLES = """\
examples:
  edge-tools quantize runs/birds --levels all
  edge-tools quantize classifier runs/birds --data DATASET --levels all --output runs/birds-levels
  edge-tools quantize classifier runs/birds --data DATASET --levels IO --representative 500
  edge-tools quantize classifier runs/birds --data DATASET --sweep 5 20 100 500
  edge-tools quantize classifier runs/birds --data DATASET --prune 0.3 --prune-epochs 5 --qat 3
"""
DEFAULT_COUNT = 200  # pictures; see the guide for what fewer and more do
ADAPTED = "adapted"  # folder of the network after pruning or QAT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, help="folder that edge-tools train classifier wrote")
    parser.add_argument("--data", type=Path, help="default: the data set it was trained on")
    levels = ("all", *convert.LEVELS)
    parser.add_argument("--levels", nargs="+", choices=levels, default=["all"], help="default: all")
    parser.add_argument("--output", type=arguments.model_folder, help="default: MODEL/levels")
    option(
        parser,
        "--representative",
        arguments.count,
        DEFAULT_COUNT,
        "training pictures to calibrate the ranges",
        metavar="COUNT",
    )
    parser.add_argument(
        "--sweep",
        type=arguments.count,
        nargs="+",
        metavar="COUNT",
        help="compare these counts",
    )
    option(parser, "--prune", arguments.share, 0.0, "of channels to cut", metavar="SHARE")
    option(parser, "--prune-epochs", arguments.count, 3, "training after pruning")
    parser.add_argument(
        "--qat", type=arguments.count, metavar="EPOCHS", help="quantization-aware training"
    )
    option(parser, "--learning-rate", arguments.positive, 1e-4, "after pruning, of QAT")
    option(parser, "--threads", arguments.count, 1, "CPU threads of TensorFlow")
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write a folder for each level."""
    chosen = _levels(args.levels)
    output = args.output or args.model / "levels"
    described = description.read(args.model)
    dataset = source.dataset(args.data, args.model)
    runtime.use_threads(args.threads)
    job, net = _open(args, described, dataset)
    asked = Adaptation(args.prune, args.prune_epochs, args.qat or 0, args.learning_rate)
    with tracking.start(
        "quantize", params=_settings(job, args, asked), uri=args.tracking_uri
    ) as record:
        if asked:
            net, job = adapt.adapted(net, job, asked, output / ADAPTED)
        source.remember(output, dataset)
        for level in track(chosen, "levels"):
            path = write_level(output / level, level, net, job)
            size = path.stat().st_size
            print(f"{path}: {convert.DESCRIPTIONS[level]}, {size:,} bytes")
            record.metrics(0, **{f"{level} bytes": size})
        if args.sweep:
            sweep.sweep(net, job, args.sweep, output)
            record.artifact(output / sweep.TABLE_FILE)
            record.artifact(output / sweep.PLOT_FILE)
    return 0


def write_level(target: Path, level: str, net: Any, job: Job) -> Path:
    """Write the folder of one level unless it is up to date; return its model file."""
    file = description.KERAS_FILE if level == "NQ" else description.TFLITE_FILE
    notes = job.described.notes | {"level": convert.DESCRIPTIONS[level]}
    if level in convert.CALIBRATED:
        notes["calibration"] = f"{len(job.pixels())} training pictures, stratified by class"
        notes["calibration data"] = f"sha256 {job.train.sha256}"
    described = msgspec.structs.replace(
        job.described, level=level, file=file, parameters=network.parameters(net), notes=notes
    )
    if _is_written(target, described):
        return target / file
    target.mkdir(parents=True, exist_ok=True)
    (target / description.FILE).unlink(missing_ok=True)
    if level == "NQ":
        network.save(net, target / file)
    else:
        durable.replace(target / file, convert.convert(net, level, job.pixels()))
    if level == "IO":
        folder.complete(target, described, job.pixels()[0])
    description.write(target, described)  # last, because it marks the folder as complete
    return target / file


def _is_written(target: Path, described: Description) -> bool:
    has_both = (target / description.FILE).is_file() and (target / described.file).is_file()
    return has_both and description.read(target) == described


def _levels(names: Sequence[str]) -> tuple[str, ...]:
    if "all" in names:
        return convert.LEVELS
    return tuple(level for level in convert.LEVELS if level in names)


def _open(args: argparse.Namespace, described: Description, dataset: Path) -> tuple[Job, Any]:
    net = network.load(args.model / described.file)
    train, validation = (
        data.pack(dataset, split, described.labels, described.side_px, args.model / "cache")
        for split in ("train", "val")
    )
    content = (args.model / described.file).read_bytes()
    notes = described.notes | {MADE_FROM: f"sha256 {hashlib.sha256(content).hexdigest()}"}
    described = msgspec.structs.replace(described, notes=notes)
    return Job(described, train, validation, args.representative), net


def _settings(job: Job, args: argparse.Namespace, asked: Adaptation) -> dict[str, object]:
    """Return the parameters of a conversion for the experiment tracker."""
    return {
        "model": args.model,
        "levels": " ".join(_levels(args.levels)),
        "representative": job.count,
        "adaptation": str(asked),
        "data_sha256": job.train.sha256,
        **job.described.notes,
    }
