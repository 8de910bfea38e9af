"""Measurements as tables in the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from tools import json_file
from tools.console import plain_console
from tools.evaluate.accuracy import Accuracy, GroupAccuracy
from tools.evaluate.subjects import Subject

GROUPS = ("classes", "sizes", "sources")
NONE = "-"


@dataclass(frozen=True)
class Measured:
    """One model's results. invoke_ms: p50, p95, p99. relative: p50 / the reference model's p50."""

    subject: Subject
    accuracy: Accuracy
    invoke_ms: dict[str, float] = field(default_factory=dict)
    relative: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the results as JSON types, NaN for missing numbers."""
        subject = self.subject
        facts = {
            "model": subject.name,
            "input": subject.size,
            "arithmetic": subject.arithmetic,
            "file_bytes": subject.file_bytes,
            "runtime": subject.runtime,
        }
        timed = {"invoke_ms": self.invoke_ms, "relative_time": self.relative}
        return facts | asdict(self.accuracy) | timed


def write_json(measured: Sequence[Measured], path: Path) -> None:
    """Write the results of all models as one JSON document."""
    json_file.write({"models": [one.document() for one in measured]}, path)


def write_csv(measured: Sequence[Measured], path: Path) -> None:
    """Write one row per model and group: `all`, each class, size and source.

    Raises EdgeError when the file cannot be written.
    """
    rows: list[tuple[str, ...]] = [("model", "group", "name", "objects", "ap", "ap50", "ap75")]
    for one in measured:
        for kind, name, group in _groups(one.accuracy):
            figures = (group.ap, group.ap50, group.ap75)
            cells = ["" if math.isnan(value) else str(value) for value in figures]
            rows.append((one.subject.name, kind, name, str(group.objects), *cells))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}; name a file that can be written") from None


def _groups(accuracy: Accuracy) -> list[tuple[str, str, GroupAccuracy]]:
    objects = sum(group.objects for group in accuracy.classes.values())
    whole = GroupAccuracy(accuracy.ap, accuracy.ap50, objects, accuracy.ap75)
    rows = [("all", "all", whole)]
    for kind in GROUPS:
        rows += [(kind, name, group) for name, group in getattr(accuracy, kind).items()]
    return rows


def show(measured: Sequence[Measured]) -> None:
    """Print one model's results, or those of several models side by side."""
    table = _one(measured[0]) if len(measured) == 1 else _side_by_side(measured)
    plain_console(columns=150).print(table)


def _one(measured: Measured) -> Any:
    from rich.table import Table

    accuracy = measured.accuracy
    title = f"{measured.subject.name} on {accuracy.dataset}, {accuracy.images} pictures"
    table = Table("", "objects", "AP", "AP50", "AP75", title=title)
    kind_before = "all"
    for kind, name, group in _groups(accuracy):
        if kind != kind_before:
            table.add_section()
        kind_before = kind
        figures = (group.ap, group.ap50, group.ap75)
        table.add_row(name, str(group.objects), *(_cell(value) for value in figures))
    table.caption = _facts(measured)
    return table


def _facts(measured: Measured) -> str:
    subject = measured.subject
    times = " / ".join(f"{value:.2f}" for value in measured.invoke_ms.values())
    timed = f"; invoke p50 / p95 / p99 {times} ms" if times else ""
    return f"{subject.size}, {subject.arithmetic}, {subject.runtime}{timed}"


def _side_by_side(measured: Sequence[Measured]) -> Any:
    from rich.table import Table

    accuracy = measured[0].accuracy
    title = f"{accuracy.dataset}, {accuracy.images} pictures"
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    for one in measured:
        table.add_column(one.subject.name, overflow="fold")
    for name, cells in _rows(measured):
        table.add_row(name, *cells, end_section=name.startswith("time"))
    for kind, name, _ in _groups(accuracy):
        if kind != "all":
            values = (getattr(one.accuracy, kind).get(name) for one in measured)
            cells = [_cell(group.ap50) if group else NONE for group in values]
            table.add_row(f"AP50 {name}", *cells)
    return table


def _rows(measured: Sequence[Measured]) -> list[tuple[str, list[str]]]:
    """Return the table's rows for the whole set; those of labels and sizes follow."""
    rows = [
        ("input", [one.subject.size for one in measured]),
        ("arithmetic", [one.subject.arithmetic for one in measured]),
        ("file, MB", [f"{one.subject.file_bytes / 1e6:.2f}" for one in measured]),
        ("AP", [_cell(one.accuracy.ap) for one in measured]),
        ("AP50", [_cell(one.accuracy.ap50) for one in measured]),
        ("AP75", [_cell(one.accuracy.ap75) for one in measured]),
    ]
    for quantile in measured[0].invoke_ms:
        cells = [f"{one.invoke_ms[quantile]:.2f}" for one in measured]
        rows.append((f"invoke {quantile}, ms", cells))
    if measured[0].relative is not None:
        rows.append(("time, relative", [f"{one.relative:.2f}" for one in measured]))
    return rows


def _cell(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"
