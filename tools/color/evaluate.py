"""Measure how well a color model names colors: `edge-tools evaluate color MODEL --data FOLDER…`.

Runs the model folder through `edge.color`, as the daemon does, on data folders laid out as `color`
or `scene_color`; objects without an agreed basic term are left out. `tools.color.figures` explains
the columns. The cross entropy is of all crops whose color somebody named, against the labellers'
shares: it tells models apart that top-1 does not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edge.color import TERMS, ColorModel
from edge.errors import InputError, UsageError
from edge.interpreter import Interpreter
from tools import json_file, model_kind
from tools.arguments import option, share, share_or_all
from tools.color import card
from tools.color.baselines import Baseline, KMeans, Trees
from tools.color.data import dataset
from tools.color.data.dataset import ColorItem, read_crops, read_set
from tools.color.figures import (
    COVERAGE,
    Answers,
    ColorFigures,
    by_class,
    by_set,
    cross_entropy,
    figures,
    groups,
    label_indices,
)
from tools.console import plain_console
from tools.progress import track
from tools.train import color_swatches

EXAMPLES = """\
examples:
  edge-tools evaluate color models/color-64 --data ../shared/data/color ../shared/data/scene_color
  edge-tools evaluate color models/color-64 --data ../shared/data/scene_color --no-class \\
      --coverage 0.9 --baselines ../shared/data
  edge-tools evaluate color models/color-64 --card runs/failures/failures.json \\
      --data ../shared/data/color ../shared/data/scene_color
  edge-tools evaluate color models/color-64 --data ../shared/data --hold-out 0.05
"""
PLAIN_SIDE_PX = 96
STAGES = ("preprocess", "invoke", "decode")
CURVE = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # coverages of the JSON document's curve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=model_kind.folder_of, help="name or model folder")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders with a labels.json"
    )
    crops = parser.add_mutually_exclusive_group()
    crops.add_argument("--split", default="val", help="default: val")
    crops.add_argument(
        "--hold-out",
        type=share,
        metavar="SHARE",
        help="the scene objects that `train color --hold-out SHARE` did not train on; --data is "
        "that run's",
    )
    option(parser, "--hold-from", share, 0.0, "as for `train color`", metavar="START")
    option(
        parser,
        "--coverage",
        _coverage,
        COVERAGE,
        "also top-1 of this share of the crops, the most certain ones",
        metavar="SHARE",
    )
    parser.add_argument("--no-class", action="store_true", help="withhold the objects' classes")
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="DATA",
        help="also k-means, and trees trained on this folder with color/, scene_color/, detection/",
    )
    option(parser, "--cache", Path, Path("runs/cache"), "of decoded crops")
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FAILURES.json",
        help="write the model's CARD.md anew, with what `color failures` counted",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")


def _coverage(text: str) -> float:
    value = share_or_all(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share above 0")
    return value


def run(args: argparse.Namespace) -> int:
    """Print the figures of all crops, of each source and of each object class; write them as JSON.

    Raises InputError when the folders hold no labelled crop.
    """
    model = ColorModel(Interpreter.load(args.model))
    found = _items(args)
    causes = card.read_causes(args.card) if args.card else None
    shares, stage_ms = _shares(model, found)
    rows = [row for row, item in enumerate(found) if dataset.is_agreed(item)]
    items = [found[row] for row in rows]
    answers = _answers(items, shares[rows], stage_ms[rows])
    threshold = model.manifest.decoder.unknown_below
    reports = {
        name: figures(some, threshold, args.coverage)
        for name, some in {"all": answers, **groups(answers), **by_class(answers)}.items()
    }
    console = plain_console()
    console.print(_table(reports, args.coverage))
    console.print(_confusion_table(reports["all"]))
    plain = plain_colors(model)
    console.print(f"plain colors, rendered: top-1 {plain:.3f}")
    named = [row for row, item in enumerate(found) if max(item.shares) > min(item.shares)]
    soft = cross_entropy([found[row] for row in named], shares[named])
    console.print(f"{len(named)} crops whose color somebody named: cross entropy {soft:.3f}")
    _print_times(console, answers, model.interpreter.runtime)
    others = _baselines(args, items) if args.baselines else {}
    for name, other in others.items():
        _print_baseline(console, name, other, args.coverage)
    if causes is not None:
        _write_card(args, model, answers, causes)
    if args.json:
        document = _document(reports, answers, model) | {
            "plain_colors": plain,
            "cross_entropy": soft,
            "baselines": _baseline_figures(others),
        }
        json_file.write(document, args.json)
    return 0


def _write_card(
    args: argparse.Namespace, model: ColorModel, answers: Answers, causes: dict[str, Any]
) -> None:
    from tools import package

    documented = {one.dataset.partition(" ")[0] for one in model.manifest.accuracy}
    missing = sorted(documented & {"color", "scene_color"} - by_set(answers).keys())
    if missing:
        raise InputError(f"the card has figures of {' and '.join(missing)}; add it to --data")
    text = card.text(model.manifest, answers, args.data[0].parent, causes)
    package.replace_card(args.model, text)


def plain_colors(model: ColorModel) -> float:
    """Return top-1 on rendered crops of one plain color each."""
    crops = color_swatches.measured(PLAIN_SIDE_PX)
    pairs = zip(crops.rgb, crops.shares.argmax(1), strict=True)
    right = [model.classify(rgb[..., ::-1])[0].name == TERMS[term] for rgb, term in pairs]
    return float(np.mean(right))


def _items(args: argparse.Namespace) -> list[ColorItem]:
    """Return the crops to run the model on; InputError when no term of any of them is agreed."""
    if args.hold_out is not None:
        if len(args.data) > 1 or args.card:
            raise UsageError("--hold-out takes one --data folder, that of the run, and no --card")
        items = dataset.held_out(args.data[0], args.hold_out, args.hold_from)
    else:
        items = [item for folder in args.data for item in read_set(folder, args.split)]
    if not any(map(dataset.is_agreed, items)):
        raise InputError("no crop with an agreed basic color term; name other folders with --data")
    return [replace(item, object_class=None) for item in items] if args.no_class else items


def ask(model: ColorModel, items: Sequence[ColorItem]) -> Answers:
    """Run the model on labelled crops; return its shares and the time of each stage."""
    return _answers(items, *_shares(model, items))


def _shares(
    model: ColorModel, items: Sequence[ColorItem]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the model's shares, (n, 11), and the milliseconds of each stage, (n, stages)."""
    shares = np.zeros((len(items), len(TERMS)))
    stage_ms = np.zeros((len(items), len(STAGES)))
    crops = track(read_crops(items), "color model", total=len(items))
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
    return shares, stage_ms


def _answers(items: Sequence[ColorItem], shares: np.ndarray, stage_ms: np.ndarray) -> Answers:
    sources = tuple(item.source for item in items)
    return Answers(shares, label_indices(items), sources, stage_ms, tuple(items))


def _baselines(args: argparse.Namespace, items: Sequence[ColorItem]) -> dict[str, Answers]:
    """Return the answers of the classical methods by their name."""
    trained = dataset.training_items(args.baselines)
    methods: dict[str, Baseline] = {
        "k-means": KMeans(),
        "Lab histogram + trees": Trees.fit(trained, args.cache),
    }
    return {name: _ask_baseline(method, items) for name, method in methods.items()}


def _ask_baseline(method: Baseline, items: Sequence[ColorItem]) -> Answers:
    shares, stage_ms = np.zeros((len(items), len(TERMS))), np.zeros((len(items), 1))
    for row, (crop, _) in enumerate(read_crops(items)):
        start = time.perf_counter()
        shares[row] = method.shares(crop)
        stage_ms[row] = (time.perf_counter() - start) * 1e3
    return _answers(items, shares, stage_ms)


def _document(
    reports: dict[str, ColorFigures], answers: Answers, model: ColorModel
) -> dict[str, object]:
    medians = np.median(answers.stage_ms, axis=0)
    threshold = model.manifest.decoder.unknown_below
    return {
        "model": model.manifest.name,
        "version": model.manifest.version,
        "runtime": model.interpreter.runtime,
        "unknown_below": threshold,
        "median_ms": dict(zip(STAGES, (round(float(value), 4) for value in medians), strict=True)),
        "figures": {name: asdict(report) for name, report in reports.items()},
        "selective_top1": {
            name: {share: figures(some, threshold, share).selective_top1 for share in CURVE}
            for name, some in {"all": answers, **groups(answers)}.items()
        },
    }


def _baseline_figures(others: dict[str, Answers]) -> dict[str, object]:
    return {
        name: {
            "median_ms": round(float(np.median(other.stage_ms)), 4),
            "figures": {
                part: asdict(figures(some, 0.0))
                for part, some in {"all": other, **groups(other)}.items()
            },
        }
        for name, other in others.items()
    }


def _table(reports: dict[str, ColorFigures], coverage: float) -> Table:
    heads = ("crops", "number", "top-1", f"top-1 at {coverage:.0%}", "ECE", "named", "correct")
    table = Table(*heads, title="Color")
    for name, report in reports.items():
        table.add_row(name, str(report.crops), *report.cells())
    return table


def _print_times(console: Console, answers: Answers, runtime: str) -> None:
    for stage, times in zip(STAGES, answers.stage_ms.T, strict=True):
        p50, p95 = np.percentile(times, (50, 95))
        console.print(f"{stage}: p50 {p50:.3f} ms, p95 {p95:.3f} ms")
    console.print(runtime)


def _print_baseline(console: Console, name: str, answers: Answers, coverage: float) -> None:
    p50, p95 = np.percentile(answers.stage_ms, (50, 95))
    parts = {"all": answers, **groups(answers)}
    reports = {part: figures(some, 0.0, coverage) for part, some in parts.items()}
    table = _table(reports, coverage)
    table.title = f"{name}: p50 {p50:.2f} ms, p95 {p95:.2f} ms"
    console.print(table)


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
