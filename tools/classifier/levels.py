"""Convert a trained classifier to every level: `edge-tools quantize classifier RUN --data DATASET`.

Each level gets a folder of its own (`NQ`, `TL`, `F16`, `DR`, `FF`, `IO`), ready to be measured by
`edge-tools evaluate classifier`; `IO` is a model folder with manifest and card as well. The
pictures that calibrate the ranges are chosen from the training split, as many of each class;
`--sweep` shows what their number does to the accuracy on the validation split. Started again, it
converts what is not there yet: a level's description is written last and says what it was made of.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tools import tracking
from tools.classifier import (
    arguments,
    charts,
    convert,
    data,
    description,
    fit,
    folder,
    network,
    representative,
    runtime,
    source,
)
from tools.classifier.data import Pictures
from tools.classifier.description import Description
from tools.classifier.tflite import TFLiteClassifier

EXAMPLES = """\
examples:
  edge-tools quantize runs/birds --levels all
  edge-tools quantize classifier runs/birds --data DATASET --levels all --output runs/birds-levels
  edge-tools quantize classifier runs/birds --data DATASET --levels IO --representative 500
  edge-tools quantize classifier runs/birds --data DATASET --sweep 5 20 100 500
  edge-tools quantize classifier runs/birds --data DATASET --prune 0.3 --prune-epochs 5 --qat 3
"""
DEFAULT_COUNT = 200  # pictures; see the guide for what fewer and more do
ADAPTED = "adapted"  # folder of the network that was pruned or trained through int8
MADE_FROM = "made from"  # a note: network and settings
SWEEP_FILE, SWEEP_PLOT = "representative.csv", "representative.png"


@dataclass(frozen=True)
class Job:
    """A network to convert, with its data."""

    described: Description
    train: Pictures
    validation: Pictures
    count: int

    def pixels(self) -> data.Pixels:
        """Return the representative pictures."""
        return representative.pixels(self.train, self.count, self.described.training.seed)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, help="folder that edge-tools train classifier wrote")
    parser.add_argument("--data", type=Path, help="default: the data set it was trained on")
    levels = ("all", *convert.LEVELS)
    parser.add_argument("--levels", nargs="+", choices=levels, default=["all"])
    parser.add_argument("--output", type=Path, help="default: MODEL/levels")
    parser.add_argument(
        "--representative", type=arguments.count, default=DEFAULT_COUNT, metavar="COUNT"
    )
    parser.add_argument(
        "--sweep", type=arguments.count, nargs="+", metavar="COUNT", help="compare counts"
    )
    parser.add_argument(
        "--prune", type=arguments.share, default=0.0, metavar="SHARE", help="of channels"
    )
    parser.add_argument(
        "--prune-epochs", type=arguments.count, default=3, help="training after pruning"
    )
    parser.add_argument("--qat", type=arguments.count, metavar="EPOCHS", help="train through int8")
    parser.add_argument(
        "--learning-rate", type=arguments.positive, default=1e-4, help="after pruning, of QAT"
    )
    parser.add_argument(
        "--threads", type=arguments.count, default=1, help="CPU threads of TensorFlow"
    )
    parser.add_argument("--tracking-uri", help="MLflow server or store; see the guide")


def run(args: argparse.Namespace) -> int:
    """Write a folder for each level."""
    chosen = _levels(args.levels)
    output = args.output or args.model / "levels"
    described = description.read(args.model)
    dataset = source.dataset(args.data, args.model)
    runtime.load(args.threads)
    job, net = _open(args, described, dataset)
    with tracking.start("quantize", params=_settings(job, args), uri=args.tracking_uri) as record:
        if args.prune or args.qat:
            net, job = _adapted(net, job, args, output / ADAPTED)
        source.remember(output, dataset)
        for level in runtime.shown(chosen, "levels"):
            path = write_level(output / level, level, net, job)
            size = path.stat().st_size
            print(f"{path}: {convert.DESCRIPTIONS[level]}, {size:,} bytes")
            record.metrics(0, **{f"{level} bytes": size})
        if args.sweep:
            _sweep(net, job, args.sweep, output)
            record.artifact(output / SWEEP_FILE)
            record.artifact(output / SWEEP_PLOT)
    return 0


def write_level(target: Path, level: str, net: Any, job: Job) -> Path:
    """Write the folder of one level, unless it is there as asked for; return its model file."""
    file = description.KERAS_FILE if level == "NQ" else description.TFLITE_FILE
    notes = job.described.notes | {"level": convert.DESCRIPTIONS[level]}
    if level in convert.CALIBRATED:
        notes["calibration"] = f"{len(job.pixels())} training pictures, stratified by class"
    described = msgspec.structs.replace(
        job.described, level=level, file=file, parameters=network.parameters(net), notes=notes
    )
    if _is_written(target, described):
        return target / file
    target.mkdir(parents=True, exist_ok=True)
    if level == "NQ":
        network.save(net, target / file)
    else:
        (target / file).write_bytes(convert.convert(net, level, job.pixels()))
    if level == "IO":
        folder.complete(target, described, job.pixels()[0])
    description.write(target, described)  # last: it says that all is there
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


def _adapted(net: Any, job: Job, args: argparse.Namespace, kept: Path) -> tuple[Any, Job]:
    """Return the network pruned and trained through int8, as asked for; kept in a folder."""
    made_from = f"{job.described.notes[MADE_FROM]}, {_adaptation(args)}"
    if (kept / description.FILE).is_file():
        described = description.read(kept)
        if described.notes.get(MADE_FROM) == made_from:
            return network.load(kept / described.file), replace(job, described=described)
    net, notes = _adapt(net, job, args)
    described = msgspec.structs.replace(
        job.described,
        file=description.KERAS_FILE,
        parameters=network.parameters(net),
        notes=job.described.notes | notes | {MADE_FROM: made_from},
    )
    network.save(net, kept / described.file)
    description.write(kept, described)
    return net, replace(job, described=described)


def _adaptation(args: argparse.Namespace) -> str:
    """Return all that decides what pruning and int8 training make of a network."""
    prune = f"prune {args.prune:g}, {args.prune_epochs} epochs" if args.prune else ""
    qat = f"qat {args.qat} epochs" if args.qat else ""
    return ", ".join(filter(None, (prune, qat, f"rate {args.learning_rate:g}")))


def _adapt(net: Any, job: Job, args: argparse.Namespace) -> tuple[Any, dict[str, str]]:
    """Return the network after pruning and int8 training, and what to say of them."""
    from tools.classifier import prune, qat

    notes = {}
    sets = job.train, job.validation
    if args.prune:
        net, notes["pruning"] = prune.prune(net, args.prune)
        before = network.parameters(net)
        prune.recover(net, *sets, epochs=args.prune_epochs, learning_rate=args.learning_rate)
        print(f"pruned: {notes['pruning']}; {before:,} parameters are left")
    if args.qat:
        net = qat.train_quantized(net, *sets, epochs=args.qat, learning_rate=args.learning_rate)
        notes["qat"] = f"{args.qat} epochs through fake quantization, rate {args.learning_rate:g}"
    return net, notes


def _settings(job: Job, args: argparse.Namespace) -> dict[str, object]:
    """Return what an experiment keeps of a conversion."""
    return {
        "model": args.model,
        "levels": " ".join(_levels(args.levels)),
        "representative": job.count,
        "adaptation": _adaptation(args),
        "data_sha256": job.train.sha256,
        **job.described.notes,
    }


def _sweep(net: Any, job: Job, counts: Sequence[int], output: Path) -> None:
    """Write what the number of representative pictures does to the integer-only file."""
    points = {}
    for count in runtime.shown(sorted(set(counts)), "representative pictures"):
        pixels = representative.pixels(job.train, count, job.described.training.seed)
        path = output / ".sweep.tflite"
        path.write_bytes(convert.convert(net, "IO", pixels))
        points[len(pixels)] = measured(path, job.validation)
        path.unlink()
        print(f"{len(pixels)} representative pictures: val_accuracy {points[len(pixels)]:.4f}")
    with (output / SWEEP_FILE).open("w", newline="") as file:
        csv.writer(file).writerows([("pictures", "val_accuracy"), *points.items()])
    title = f"Integer only, {len(job.validation.labels)} validation pictures"
    axes = ("representative pictures", "accuracy")
    charts.line(points, output / SWEEP_PLOT, title=title, axes=axes)


def measured(path: Path, pictures: Pictures) -> float:
    """Return the accuracy of a .tflite file."""
    classifier = TFLiteClassifier(path)
    answers = np.stack([classifier.probabilities(np.asarray(rgb)) for rgb in pictures.rgb])
    return fit.accuracy(answers, pictures.labels)
