"""`edge-tools evaluate detect MODEL…`: accuracy, speed, diagrams and pictures of detectors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edge.errors import EXIT_CONFIG, EXIT_OK, InputError, UsageError
from tools import dataset, json_file, model_kind, parallel, tracking
from tools.arguments import count_or_zero, option, refuse_options
from tools.benchmark import timing
from tools.dataset import Dataset
from tools.evaluate import accuracy, confusion, kernels, pictures, report, spread, subjects
from tools.evaluate.accuracy import Accuracy
from tools.evaluate.report import Measured
from tools.evaluate.subjects import FLOAT_SIZE, Options, Subject
from tools.input_size import InputSize

EXAMPLES = """examples:
  edge-tools evaluate detect models/yolox-nano-352 \\
    --annotations ../shared/data/detection/val.json --images ../shared/data/detection
  edge-tools evaluate detect models/yolox-nano-352 models/yolox-nano-480 \\
    --baselines ../shared/baselines --reference ssd_mobilenet_v1_coco_uint8 --csv table.csv \\
    --annotations ../shared/data/detection/val.json --images ../shared/data/detection
  edge-tools evaluate detect models/yolox-nano-352 --plots plots --pictures seen \\
    --annotations own/val.json --images own/pictures
  edge-tools evaluate detect models/yolox-nano-352 --kernels all \\
    --tflite-runtime .venv-tflite-runtime/bin/python \\
    --annotations ../shared/data/detection/val.json --images ../shared/data/detection
  edge-tools evaluate detect ../shared/weights/yolox_nano.onnx --size 320 \\
    --annotations ../shared/data/detection/val.json --images ../shared/data/detection"""
KERNELS = {"xnnpack": True, "builtin": False}
NOT_COMPARED = (  # options that cannot be combined with --kernels all
    "baselines", "reference", "csv", "plots", "pictures", "dask", "record", "resume",
    "tracking_uri",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `edge-tools evaluate detect` takes."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="name, model folder, .tflite of a known COCO detector, or a float original "
        "(yolox_nano.onnx, best.pt, FastestDet.onnx)",
    )
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its pictures")
    parser.add_argument(
        "--baselines", type=Path, metavar="DIR", help="also every .tflite and .onnx in it"
    )
    parser.add_argument("--reference", metavar="NAME", help="of relative times; default: the first")
    option(parser, "--size", InputSize.parse, FLOAT_SIZE, "of a float original")
    parser.add_argument(
        "--kernels",
        choices=(*KERNELS, "all"),
        default="xnnpack",
        help="kernels of the TFLite runtime; all: compare them, only for model folders; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--tflite-runtime",
        type=Path,
        metavar="PYTHON",
        help="with --kernels all: the interpreter of an environment with tflite-runtime",
    )
    option(parser, "--runs", count_or_zero, 50, "timed invokes; 0: none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write them as a table")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="write precision-recall and confusion diagrams"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="draw the best hits and the worst errors"
    )
    parallel.add_arguments(parser)
    parser.add_argument(
        "--record", action="store_true", help="store the figures in the models' manifests and cards"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="save each picture's detections there, to resume a stopped evaluation",
    )
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, write the requested files; return the exit code."""
    data = dataset.read(args.annotations, args.images)
    names = [*args.models, *(subjects.baselines(args.baselines) if args.baselines else ())]
    if not names:
        raise UsageError("nothing to evaluate; name a MODEL or --baselines")
    if args.kernels == "all":
        return _compare_kernels(args, data)
    if args.tflite_runtime:
        raise UsageError("--tflite-runtime: means nothing without --kernels all")
    options = Options(xnnpack=KERNELS[args.kernels], float_size=args.size)
    with ExitStack() as stack:
        record = stack.enter_context(
            tracking.start(
                "evaluate",
                params={"models": " ".join(map(str, names)), "pictures": len(data.pictures)},
                uri=args.tracking_uri,
                data=[args.annotations],
            )
        )
        loaded = [subjects.load(str(name), stack, options) for name in names]
        reference = _reference(loaded, args.reference)
        measurable = _known_to_a_model(loaded, data)
        found = {
            one.name: spread.collect(
                one, options, data, workers=args.workers, dask=args.dask, keep=args.resume
            )
            for one in loaded
        }
        measured = _measure(loaded, found, measurable, reference, args.runs)
        report.show(measured)
        _write(measured, found, measurable, args)
        _track(record, measured, args)
    return EXIT_OK


def _reference(loaded: Sequence[Subject], wanted: str | None) -> str:
    """Return the model that times are relative to; UsageError if unknown or if names repeat."""
    names = [one.name for one in loaded]
    if len(set(names)) < len(names):
        same = sorted({name for name in names if names.count(name) > 1})
        raise UsageError(f"two models have one name; rename a folder or file: {', '.join(same)}")
    if wanted and wanted not in names:
        raise UsageError(f"--reference {wanted}: measured are {', '.join(names)}")
    return wanted or names[0]


def _known_to_a_model(loaded: Sequence[Subject], data: Dataset) -> Dataset:
    """Return the set without the classes that no model knows, as `train detect` measures it.

    Prints what is left out and what single models lack. Raises InputError when one knows no class.
    """
    counts = accuracy.object_counts(data)
    asked = [label for label in data.labels.values() if counts[label]]
    known = {label for one in loaded for label in one.labels}
    for one in loaded:
        lacking = [label for label in asked if label not in one.labels]
        message = f"{one.name} does not know "
        if lacking and len(lacking) == len(asked):
            fault = f"no class of {data.name}; use the same class names"
            raise InputError(f"{message}{', '.join(lacking)}: {fault}")
        if missed := known.intersection(lacking):
            print(f"{message}{', '.join(sorted(missed))}: 0 in the means", file=sys.stderr)
    if unknown := [label for label in asked if label not in known]:
        print(f"left out, as no model knows them: {', '.join(unknown)}", file=sys.stderr)
    return accuracy.restrict_to_labels(data, known)


def _measure(
    loaded: Sequence[Subject],
    found: dict[str, list[dict[str, Any]]],
    data: Dataset,
    reference: str,
    runs: int,
) -> list[Measured]:
    times: dict[str, dict[str, float]] = {}
    ratios: dict[str, float] = {}
    if runs and data.pictures:
        for one in loaded:
            one.show(dataset.load(data.pictures[0]))
        times = timing.measure({one.name: one.invoke for one in loaded}, runs)
        ratios = timing.relative(times, reference)
    measured = []
    for one in loaded:
        figures = _score(data, found[one.name])
        measured.append(Measured(one, figures, times.get(one.name, {}), ratios.get(one.name)))
    return measured


def _score(data: Dataset, results: list[dict[str, Any]]) -> Accuracy:
    return accuracy.add_source_accuracy(accuracy.score(data, results), data, results)


def _write(
    measured: Sequence[Measured],
    found: dict[str, list[dict[str, Any]]],
    data: Dataset,
    args: argparse.Namespace,
) -> None:
    if args.json:
        report.write_json(measured, args.json)
    if args.csv:
        report.write_csv(measured, args.csv)
    for one in measured:
        results = found[one.subject.name]
        if args.plots:
            _plot(one, results, data, args.plots)
        if args.pictures:
            sheet = args.pictures / f"{one.subject.name}.jpg"
            pictures.write(list(confusion.matches(data, results)), data, sheet)
        if args.record and one.subject.folder is not None:
            own = accuracy.restrict_to_labels(data, one.subject.labels)
            is_whole = own.labels == data.labels
            _record(one.subject.folder, one.accuracy if is_whole else _score(own, results), args)


def _track(record: tracking.Run, measured: Sequence[Measured], args: argparse.Namespace) -> None:
    """Record each model's metrics and the written files in the experiment tracker."""
    for one in measured:
        whole = {"AP": one.accuracy.ap, "AP50": one.accuracy.ap50, "AP75": one.accuracy.ap75}
        figures = whole | {f"invoke {name} ms": value for name, value in one.invoke_ms.items()}
        record.metrics(0, **{f"{one.subject.name} {key}": value for key, value in figures.items()})
    for path in (args.json, args.csv, args.plots, args.pictures):
        if path:
            record.artifact(path)


def _record(folder: Path, measured: Accuracy, args: argparse.Namespace) -> None:
    """Store a model's figures, hits and errors in its folder."""
    from tools import package
    from tools.evaluate import seen

    seen.draw(folder)
    package.record_accuracy(folder, measured, args.annotations, args.images)


def _plot(measured: Measured, results: list[dict[str, Any]], data: Dataset, folder: Path) -> None:
    """Write the diagrams of one model; the legend shows each label's AP50."""
    from tools import plots

    name, title = measured.subject.name, f"{measured.subject.name}, {data.name}"
    classes = measured.accuracy.classes
    lines = {
        f"{label} {classes[label].ap50:.2f}": curve
        for label, curve in accuracy.curves(data, accuracy.accumulated(data, results)).items()
    }
    curves = folder / f"{name}-precision-recall.png"
    plots.precision_recall(lines, curves, title=f"{title}, IoU 0.5", legend_title="class, AP50")
    counts, labels = confusion.matrix(data, list(confusion.matches(data, results)))
    plots.confusion_matrix(
        counts,
        labels,
        folder / f"{name}-confusion.png",
        title=f"{title}, score {confusion.SHOWN_SCORE} or more",
        axes=("annotated", "detected"),
    )


def _compare_kernels(args: argparse.Namespace, data: Dataset) -> int:
    """Print how kernels agree on model folders; return 78 if they differ."""
    refuse_options([name for name in NOT_COMPARED if getattr(args, name)], "--kernels all")
    faults = 0
    documents: list[dict[str, Any]] = []
    for model in args.models:
        folder = model_kind.folder_of(model)
        found = kernels.agreement(folder, data, python=args.tflite_runtime, runs=args.runs)
        kernels.show(folder.resolve().name, found)
        documents += kernels.documents(folder.resolve().name, found)
        faults += any(one.faults for one in found)
    if args.json:
        json_file.write({"kernels": documents}, args.json)
    return EXIT_CONFIG if faults else EXIT_OK
