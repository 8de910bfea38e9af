"""Measures classifiers of all levels with one method: `edge-tools evaluate classifier MODEL…`.

Each model runs in a separate process, one picture at a time. Loss is the mean cross entropy with
probabilities floored at 1e-7, as in Keras; an int8 file's probabilities are multiples of 1/256, so
a 0 for the right class costs the maximum loss. Agreement is the share of pictures with the same
predicted class as the float network (NQ, or the first model named). Memory is the peak of the
process and, in brackets, without runtime. Stopped and started again, only the missing models are
measured.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.table import Table

from edge.errors import InputError, ModelError
from tools import arguments, plots, tracking
from tools.arguments import option
from tools.classifier import (
    charts,
    convert,
    data,
    description,
    fit,
    recorded,
    source,
)
from tools.classifier.answered import Answered, forget, measure
from tools.classifier.data import Pictures
from tools.classifier.description import Description
from tools.classifier.figures import Figures
from tools.console import plain_console
from tools.progress import track

EXAMPLES = """\
examples:
  edge-tools evaluate classifier runs/birds/levels --data DATASET --output runs/birds-measured
  edge-tools evaluate classifier runs/a runs/b/levels/IO --data DATASET --split val
MODEL is a folder with a classifier.json, or a folder of such, as edge-tools quantize wrote it.
"""
MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="folders")
    parser.add_argument("--data", type=Path, help="class folders; default: those of the training")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="test",
        help="which pictures; default: test",
    )
    option(parser, "--output", Path, Path("runs/measured"), "tables, plots")
    parser.add_argument(
        "--limit", type=arguments.count, help="measure only so many pictures, balanced by class"
    )
    option(parser, "--threads", arguments.count, 1, "CPU threads of the runtimes")
    parser.add_argument(
        "--record", action="store_true", help="store the figures in manifest and card of IO"
    )
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table and write it as CSV and JSON, with its plots."""
    folders = _folders(args.models)
    described = [description.read(folder) for folder in folders]
    _check_same(folders, described)
    args.data = source.dataset(args.data, folders[0])
    pictures = _pictures(args, described[0])
    with tracking.start("levels", params=_settings(args, pictures), uri=args.tracking_uri) as kept:
        answered = [
            measure(folder, one, pictures, args.threads, args.output)
            for folder, one in track(list(zip(folders, described, strict=True)), "models")
        ]
        found = figures(answered, pictures)
        where = f"{args.data.resolve().name}/{args.split}"
        _print(found, where)
        _write(found, answered, pictures, args.output)
        if args.record:
            recorded.write(found, where)
        _track(kept, found, args.output)
    forget(args.output)
    return 0


def figures(answered: Sequence[Answered], pictures: Pictures) -> list[Figures]:
    """Return each model's figures; agreement is with the first NQ model, else the first model."""
    reference = next((one for one in answered if one.described.level == "NQ"), answered[0])
    expected = reference.answers.argmax(1)
    found = []
    for one in answered:
        times = np.array(one.measured.times_ms)
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        found.append(
            Figures(
                model=str(one.folder),
                level=one.described.level,
                pictures=len(times),
                loss=fit.cross_entropy(one.answers, pictures.labels),
                accuracy=fit.accuracy(one.answers, pictures.labels),
                agreement=float((one.answers.argmax(1) == expected).mean()),
                mean_ms=float(times.mean()),
                p50_ms=float(p50),
                p95_ms=float(p95),
                p99_ms=float(p99),
                load_ms=one.measured.load_ms,
                file_bytes=(one.folder / one.described.file).stat().st_size,
                peak_bytes=one.measured.peak_bytes,
                added_bytes=one.measured.peak_bytes - one.measured.baseline_bytes,
                runtime=one.measured.runtime,
            )
        )
    return found


def _settings(args: argparse.Namespace, pictures: Pictures) -> dict[str, object]:
    """Return the parameters of a measurement for the experiment tracker."""
    return {
        "models": " ".join(str(model) for model in args.models),
        "split": args.split,
        "pictures": len(pictures.labels),
        "threads": args.threads,
        "data_sha256": pictures.sha256,
    }


def _track(record: tracking.Run, found: Sequence[Figures], output: Path) -> None:
    for name, one in zip(_names(found), found, strict=True):
        record.metrics(
            0,
            **{
                f"{name} {figure}": value
                for figure, value in msgspec.to_builtins(one).items()
                if isinstance(value, int | float)
            },
        )
    for path in (*output.glob("levels.*"), *output.glob("*.png")):
        record.artifact(path)


def _folders(models: Sequence[Path]) -> list[Path]:
    """Return the classifiers' folders; a folder of levels is replaced by its levels, NQ first."""
    found: list[Path] = []
    for model in models:
        if (model / description.FILE).exists():
            found.append(model)
            continue
        inside = [model / level for level in convert.LEVELS]
        levels = [folder for folder in inside if (folder / description.FILE).exists()]
        if not levels:
            raise ModelError(
                f"{model}: no {description.FILE} in it nor in folders {', '.join(convert.LEVELS)}; "
                "name what edge-tools train or quantize classifier wrote"
            )
        found += levels
    return found


def _check_same(folders: Sequence[Path], described: Sequence[Description]) -> None:
    for folder, one in zip(folders, described, strict=True):
        if (one.labels, one.side_px) != (described[0].labels, described[0].side_px):
            raise InputError(
                f"{folder} has other labels or another size than {folders[0]}; measure it alone"
            )


def _pictures(args: argparse.Namespace, described: Description) -> Pictures:
    from tools.classifier import representative

    size = described.side_px
    pictures = data.pack(args.data, args.split, described.labels, size, args.output / "cache")
    if args.limit is None or args.limit >= len(pictures.labels):
        return pictures
    rows = np.sort(representative.choose(pictures.labels, args.limit, seed=1))
    return data.subset(pictures, rows)


def _print(found: Sequence[Figures], where: str) -> None:
    heads = ("level", "loss", "accuracy", "agreement", "mean ms", "p50", "p95", "p99")
    title = f"{found[0].pictures} pictures of {where}, one at a time"
    table = Table(*heads, "load ms", "file MB", "memory MB", title=title)
    for one in found:
        times = (one.mean_ms, one.p50_ms, one.p95_ms, one.p99_ms)
        table.add_row(
            one.level,
            f"{one.loss:.4f}",
            f"{one.accuracy:.4f}",
            f"{one.agreement:.4f}",
            *(f"{value:.3f}" for value in times),
            f"{one.load_ms:.1f}",
            f"{one.file_bytes / MB:.3f}",
            f"{one.peak_bytes / MB:.0f} ({one.added_bytes / MB:.0f})",
        )
    plain_console(columns=120).print(table)
    for one in found:
        print(f"{one.level}: {one.model}, {one.runtime}")


def _write(
    found: Sequence[Figures], answered: Sequence[Answered], pictures: Pictures, output: Path
) -> None:
    """Write levels.csv, levels.json, levels.png, and two plots per model."""
    output.mkdir(parents=True, exist_ok=True)
    description.write_json(output / "levels.json", list(found))
    rows = [msgspec.to_builtins(one) for one in found]
    with (output / "levels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    names = _names(found)
    by_name = dict(zip(names, found, strict=True))
    columns = {
        "accuracy": {name: one.accuracy for name, one in by_name.items()},
        "time a picture, p50, ms": {name: one.p50_ms for name, one in by_name.items()},
        "file, MB": {name: one.file_bytes / MB for name, one in by_name.items()},
        "peak memory, MB": {name: one.peak_bytes / MB for name, one in by_name.items()},
    }
    charts.bars(columns, output / "levels.png", title="Levels of conversion")
    for name, one in zip(names, answered, strict=True):
        _plot(name, one, pictures, output)
    print(f"{output}: levels.csv, levels.json, levels.png, confusion and reliability of each model")


def _names(found: Sequence[Figures]) -> list[str]:
    levels = [one.level for one in found]
    if len(set(levels)) == len(levels):
        return levels
    return [f"{number}-{level}" for number, level in enumerate(levels, 1)]


def _plot(name: str, one: Answered, pictures: Pictures, output: Path) -> None:
    """Write the confusion matrix and the reliability diagram of a model."""
    labels = one.described.labels
    guesses = one.answers.argmax(1)
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (pictures.labels, guesses), 1)
    plots.confusion_matrix(counts, labels, output / f"confusion-{name}.png", title=name)
    plots.reliability(
        one.answers.max(1),
        guesses == pictures.labels,
        output / f"reliability-{name}.png",
        title=name,
    )
