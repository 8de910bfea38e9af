"""How well a color model names colors: `edge-tools evaluate color MODEL --data FOLDER…`.

Runs the packaged model through `edge.color`, as the daemon does, over folders laid out as `color`
or `scene_color`; objects without an agreed basic term are left out. Reading the result: top-1
counts the largest share whatever its size; `named` says how many crops reach the model's
threshold and how many of those are right; ECE is the gap between share and accuracy (15 bins).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge.color import TERMS, ColorModel
from edge.errors import InputError
from edge.interpreter import Interpreter
from tools.color_data import ColorItem, read_crops, read_set

EXAMPLES = """\
example:
  edge-tools evaluate color models/color-64 --data ../shared/data/color ../shared/data/scene_color
"""
ECE_BINS = 15
STAGES = ("preprocess", "invoke", "decode")


@dataclass(frozen=True)
class Answers:
    """What a model said of n crops.

    shares: float64, (n, 11), in the order of TERMS. labels: int64, (n,), index into TERMS.
    sources: of each crop. stage_ms: float64, (n, 3), in the order of STAGES.
    """

    shares: NDArray[np.float64]
    labels: NDArray[np.int64]
    sources: tuple[str, ...]
    stage_ms: NDArray[np.float64]


@dataclass(frozen=True)
class ColorFigures:
    """Figures of some crops; shares and rates 0..1.

    coverage: crops whose largest share reaches the threshold; named_top1: right among those.
    recall, precision: by term; None where there is no crop or no answer of it.
    confusion: labelled term -> answered term -> crops.
    """

    crops: int
    top1: float
    ece: float
    coverage: float
    named_top1: float
    recall: dict[str, float | None]
    precision: dict[str, float | None]
    confusion: dict[str, dict[str, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders with a labels.json"
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--json", type=Path, help="also write the figures here")


def run(args: argparse.Namespace) -> int:
    """Print the figures of each source and of all, and write them as JSON.

    Raises InputError when the folders hold no labelled crop.
    """
    model = ColorModel(Interpreter.load(args.model))
    items = [item for folder in args.data for item in read_set(folder, args.split)]
    labelled = [item for item in items if item.label is not None]
    if not labelled:
        raise InputError("no crop with an agreed basic color term; name other folders with --data")
    answers = ask(model, labelled)
    threshold = model.manifest.decoder.unknown_below
    reports = {"all": figures(answers, threshold)}
    for source in sorted(set(answers.sources)):
        reports[source] = figures(only(answers, source), threshold)
    _print(reports, answers, model.interpreter.runtime)
    if args.json:
        args.json.write_text(json.dumps(_document(reports, answers, model), indent=2) + "\n")
    return 0


def ask(model: ColorModel, items: Sequence[ColorItem]) -> Answers:
    """Return the model's shares for labelled crops, each stage timed."""
    shares = np.zeros((len(items), len(TERMS)))
    stage_ms = np.zeros((len(items), len(STAGES)))
    crops = track(read_crops(items), "color model", total=len(items), transient=True)
    for row, (crop, _) in enumerate(crops):
        stamps = [time.perf_counter()]
        model.preprocess(crop, items[row].object_class)
        stamps.append(time.perf_counter())
        model.invoke()
        stamps.append(time.perf_counter())
        scores = model.decode()
        stamps.append(time.perf_counter())
        stage_ms[row] = np.diff(stamps) * 1e3
        for score in scores:
            shares[row, TERMS.index(score.name)] = score.score
    labels = np.array([TERMS.index(str(item.label)) for item in items], np.int64)
    return Answers(shares, labels, tuple(item.source for item in items), stage_ms)


def only(answers: Answers, *sources: str) -> Answers:
    """Return the answers about the crops of some sources."""
    rows = np.array([name in sources for name in answers.sources])
    kept = tuple(name for name in answers.sources if name in sources)
    return Answers(answers.shares[rows], answers.labels[rows], kept, answers.stage_ms[rows])


def figures(answers: Answers, unknown_below: float) -> ColorFigures:
    """Return the figures of some answers."""
    guesses, tops = answers.shares.argmax(1), answers.shares.max(1)
    hits = guesses == answers.labels
    counts = np.zeros((len(TERMS), len(TERMS)), int)
    np.add.at(counts, (answers.labels, guesses), 1)
    named = tops >= unknown_below
    return ColorFigures(
        crops=len(hits),
        top1=float(hits.mean()),
        ece=expected_calibration_error(tops, hits),
        coverage=float(named.mean()),
        named_top1=float(hits[named].mean()) if named.any() else 0.0,
        recall=_ratios(counts.diagonal(), counts.sum(1)),
        precision=_ratios(counts.diagonal(), counts.sum(0)),
        confusion={
            term: {TERMS[column]: int(row[column]) for column in np.flatnonzero(row)}
            for term, row in zip(TERMS, counts, strict=True)
        },
    )


def expected_calibration_error(tops: NDArray[np.float64], hits: NDArray[np.bool_]) -> float:
    """Return the mean gap between share and accuracy over equal bins, weighted by their crops.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    bins = np.minimum((tops * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [
        abs(float(hits[bins == number].mean() - tops[bins == number].mean()))
        * (bins == number).mean()
        for number in np.unique(bins)
    ]
    return float(sum(gaps))


def _ratios(parts: NDArray[np.int_], wholes: NDArray[np.int_]) -> dict[str, float | None]:
    return {
        term: float(part / whole) if whole else None
        for term, part, whole in zip(TERMS, parts, wholes, strict=True)
    }


def _document(
    reports: dict[str, ColorFigures], answers: Answers, model: ColorModel
) -> dict[str, object]:
    medians = np.median(answers.stage_ms, axis=0)
    return {
        "model": model.manifest.name,
        "version": model.manifest.version,
        "runtime": model.interpreter.runtime,
        "unknown_below": model.manifest.decoder.unknown_below,
        "median_ms": dict(zip(STAGES, (round(float(value), 4) for value in medians), strict=True)),
        "figures": {name: asdict(report) for name, report in reports.items()},
    }


def _print(reports: dict[str, ColorFigures], answers: Answers, runtime: str) -> None:
    console = Console()
    table = Table("source", "crops", "top-1", "ECE", "named", "right of named", title="Color")
    for name, report in reports.items():
        rates = (report.top1, report.ece, report.coverage, report.named_top1)
        table.add_row(name, str(report.crops), *(f"{rate:.3f}" for rate in rates))
    console.print(table)
    console.print(_confusion_table(reports["all"]))
    for stage, times in zip(STAGES, answers.stage_ms.T, strict=True):
        p50, p95 = np.percentile(times, (50, 95))
        console.print(f"{stage}: p50 {p50:.3f} ms, p95 {p95:.3f} ms")
    console.print(runtime)


def _confusion_table(report: ColorFigures) -> Table:
    heads = ("label", *(term[:4] for term in TERMS), "recall")
    table = Table(*heads, title="Answers by label", box=None, padding=(0, 1, 0, 0))
    for term in TERMS:
        recall = report.recall[term]
        cells = [str(report.confusion[term].get(other, "·")) for other in TERMS]
        table.add_row(term, *cells, "-" if recall is None else f"{recall:.2f}")
    precisions = report.precision.values()
    table.add_row("precision", *("-" if one is None else f"{one:.2f}" for one in precisions), "")
    return table
