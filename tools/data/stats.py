"""`edge-tools data stats`: counts and box sizes of a data set, as tables and diagrams."""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EXIT_OK
from tools import json_file
from tools.console import plain_console
from tools.data import folder
from tools.dataset import Dataset
from tools.plots import COLORS, legend, literal, save

EXAMPLES = """\
examples:
  edge-tools data stats data/street
  edge-tools data stats data/street --plot stats.png --json stats.json
  edge-tools data stats train.json val.json --images pictures
"""
SMALL_PX, MEDIUM_PX = 32, 96  # COCO's limits on the square root of a box's area
BAR_IN = 0.16
MAX_HEIGHT_IN = 400.0  # of the bars: matplotlib draws 655 inches at most
BIN_DOUBLINGS = 0.25  # width of a histogram's bin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    folder.add_arguments(parser)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the distributions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save the numbers")


def run(args: argparse.Namespace) -> int:
    """Print a table of classes and one of sources for each set."""
    sets = _distinct(folder.read_all(args.data, args.images), folder.files(args.data))
    measured = [measure(data) for data in sets]
    figures = {data.name: found for data, found in zip(sets, measured, strict=True)}
    for name, found in figures.items():
        _show(name, found)
    if args.plot:
        _plot(sets, measured, args.plot)
    if args.json:
        json_file.write(figures, args.json, indent=1)
    return EXIT_OK


def _distinct(sets: list[Dataset], files: list[Path]) -> list[Dataset]:
    """Return the sets, named by their files' paths if two have the same name."""
    if len({data.name for data in sets}) == len(sets):
        return sets
    return [replace(data, name=str(file)) for data, file in zip(sets, files, strict=True)]


def side_px(item: dict[str, Any]) -> float:
    """Return the square root of a box's area."""
    return math.sqrt(max(item["bbox"][2] * item["bbox"][3], 0.0))


def measure(data: Dataset) -> dict[str, Any]:
    """Return counts by class and by source; sizes are square roots of areas in pixels."""
    by_class: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in data.annotations:
        by_class[item["category_id"]].append(item)
    boxes = Counter(item["image_id"] for item in data.annotations)
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    for picture in data.pictures:
        sources[picture.source].update(pictures=1, objects=boxes[picture.image_id])
    return {
        "pictures": len(data.pictures),
        "objects": len(data.annotations),
        "pictures_without_objects": sum(not boxes[p.image_id] for p in data.pictures),
        "classes": {
            name: _of_class(by_class[number]) for number, name in sorted(data.labels.items())
        },
        "sources": {name: dict(counts) for name, counts in sorted(sources.items())},
    }


def _of_class(items: list[dict[str, Any]]) -> dict[str, Any]:
    sides = [side_px(item) for item in items]
    return {
        "objects": len(items),
        "pictures": len({item["image_id"] for item in items}),
        "crowds": sum(bool(item.get("iscrowd", 0)) for item in items),
        "small": sum(side < SMALL_PX for side in sides),
        "medium": sum(SMALL_PX <= side < MEDIUM_PX for side in sides),
        "large": sum(side >= MEDIUM_PX for side in sides),
        "median_side_px": round(statistics.median(sides), 1) if sides else None,
        "median_aspect": round(statistics.median(_aspects(items)), 2) if sides else None,
    }


def _aspects(items: Sequence[dict[str, Any]]) -> list[float]:
    """Return width over height of each box."""
    return [item["bbox"][2] / max(item["bbox"][3], 1e-6) for item in items]


def _show(name: str, found: dict[str, Any]) -> None:
    from rich.table import Table

    empty = found["pictures_without_objects"]
    title = f"{name}: {found['pictures']} pictures ({empty} without objects)"
    for kind, word in (("classes", "class"), ("sources", "source")):
        rows = found[kind]
        if list(rows) == [""]:  # no picture names its source
            continue
        columns = list(next(iter(rows.values()), {}))
        table = Table(word, title=title, title_justify="left")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right")
        for label, row in rows.items():
            table.add_row(label, *("-" if row[key] is None else str(row[key]) for key in columns))
        plain_console(columns=110).print(table)
        title = ""


def _plot(sets: list[Dataset], measured: list[dict[str, Any]], path: Path) -> None:
    """Draw objects by class and source, box sizes and aspect ratios; one color per set.

    measured: figures of the sets, from `measure`.
    """
    from matplotlib.figure import Figure

    rows = max(
        len({name for one in measured for name in one[key]}) for key in ("classes", "sources")
    )
    bars_in = min(max(4.5, BAR_IN * rows * (len(sets) + 1)), MAX_HEIGHT_IN)
    figure = Figure(figsize=(12, bars_in + 4.5), layout="constrained")
    (classes, sources), (sizes, aspects) = figure.subplots(2, 2, height_ratios=(bars_in, 4.5))
    drawn = draw_bars(classes, [one["classes"] for one in measured])
    draw_bars(sources, [one["sources"] for one in measured])
    _histogram(sizes, [[max(side_px(item), 1) for item in data.annotations] for data in sets])
    _histogram(aspects, [[max(a, 1e-3) for a in _aspects(data.annotations)] for data in sets])
    for plot in (classes, sources):  # bars of equal height, the first name on top
        plot.set_ylim(rows - 0.05, -0.55)
    classes.set(title="objects by class", xlabel="objects")
    sources.set(title="objects by source", xlabel="objects")
    sizes.set(title="box size", xlabel="square root of the area, px")
    aspects.set(title="box shape", xlabel="width / height")
    legend(sizes, drawn, [data.name for data in sets])
    save(figure, path, dpi=100)


def draw_bars(plot: Any, sets: list[dict[str, dict[str, Any]]]) -> list[Any]:
    """Draw the objects of each set by name; return the bars by set."""
    names = list(dict.fromkeys(name for rows in sets for name in rows))
    height = 1 / (len(sets) + 1)
    drawn = []
    for place, rows in enumerate(sets):
        positions = [index + place * height for index in range(len(names))]
        counts = [rows[name].get("objects", 0) if name in rows else 0 for name in names]
        bars = plot.barh(positions, counts, height, color=COLORS[place % len(COLORS)])
        plot.bar_label(bars, fontsize=7, padding=2)
        drawn.append(bars)
    middle = height * (len(sets) - 1) / 2
    shown = [literal(name) or "not named" for name in names]
    plot.set_yticks([index + middle for index in range(len(names))], shown)
    plot.set_xscale("symlog")
    plot.margins(x=0.1)
    return drawn


def _histogram(plot: Any, sets: list[list[float]]) -> None:
    """Draw the shares of each set's values, which are positive, over a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    logs = [np.log2(values) for values in sets]
    every = np.concatenate(logs) if any(map(len, logs)) else np.zeros(1)
    first, last = math.floor(every.min()), math.floor(every.max()) + 1
    bins = np.arange(first, last + BIN_DOUBLINGS, BIN_DOUBLINGS)
    for place, values in enumerate(logs):
        weights = np.full(len(values), 1 / max(len(values), 1))
        color = COLORS[place % len(COLORS)]
        plot.hist(values, bins, weights=weights, histtype="step", linewidth=1.5, color=color)
    plot.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda log, _: _power_of_two(log)))
    plot.set_ylabel("share of the set's objects")


def _power_of_two(log: float) -> str:
    return f"{2**log:.0f}" if log >= 0 else f"1/{2**-log:.0f}"
