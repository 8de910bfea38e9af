"""`edge-tools data stats`: counts and box sizes of a data set, as tables and diagrams."""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from edge.errors import EXIT_OK, EdgeError
from tools import json_file
from tools.console import plain_console
from tools.data import folder
from tools.dataset import Dataset
from tools.plots import legend, literal, save

EXAMPLES = """\
examples:
  edge-tools data stats data/street
  edge-tools data stats data/street --plot stats.png --json stats.json
  edge-tools data stats train.json val.json --images pictures
"""
SMALL_PX, MEDIUM_PX = 32, 96  # COCO's limits on the square root of a box's area


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    folder.add_arguments(parser)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the distributions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save the numbers")


def run(args: argparse.Namespace) -> int:
    """Print a table of classes and one of sources for each set."""
    sets = folder.read_all(args.data, args.images)
    figures = {data.name: measure(data) for data in sets}
    for name, found in figures.items():
        _show(name, found)
    if args.plot:
        _plot(sets, args.plot)
    if args.json:
        json_file.write(figures, args.json, indent=1)
    return EXIT_OK


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


def _aspects(items: list[dict[str, Any]]) -> list[float]:
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
        plain_console(110).print(table)
        title = ""


def _plot(sets: list[Dataset], path: Path) -> None:
    """Draw objects by class and source, box sizes and aspect ratios; one color per set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    (classes, sources), (sizes, aspects) = figure.subplots(2, 2)
    bars = []
    for place, data in enumerate(sets):
        found = measure(data)
        items = list(data.annotations)
        bars.append(_bars(classes, found["classes"], place))
        _bars(sources, found["sources"], place)
        style = {"bins": 40, "histtype": "step", "density": True}
        sizes.hist([math.log2(max(side_px(item), 1)) for item in items], **style)
        aspects.hist([math.log2(max(a, 1e-3)) for a in _aspects(items)], **style)
    classes.set(title="objects by class", xscale="symlog")
    sources.set(title="objects by source", xscale="symlog")
    sizes.set(title="box side, log2 px")
    aspects.set(title="box width / height, log2")
    legend(classes, bars, [data.name for data in sets])
    try:
        save(figure, path, dpi=100)
    except (OSError, ValueError) as error:
        raise EdgeError(f"{path}: {error}; name a .png file that can be written") from None


def _bars(plot: Any, rows: dict[str, dict[str, Any]], place: int) -> Any:
    """Draw a set's objects by name; return the bars."""
    height = 0.25
    positions = [index + place * height for index in range(len(rows))]
    plot.set_yticks(positions, [literal(name) for name in rows])
    return plot.barh(positions, [row["objects"] for row in rows.values()], height)
