"""Counts effects of faults: tries, events lost, hangs, recovery time; prints the README's table.

A test marked `fault("name")` takes the fixture `fault` and calls `recovered(...)` once per try.
A try that does not reach that call within the test's bounded waits counts as hung.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HEAD = "| fault | tries | events lost | hung | time to recover, median / longest (s) |"


@dataclass
class Row:
    tries: int = 0
    lost: int = 0
    done: int = 0
    recover_s: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        times = sorted(self.recover_s)
        spread = f"{times[len(times) // 2]:.2f} / {times[-1]:.2f}" if times else "-"
        return f"| {name} | {self.tries} | {self.lost} | {self.tries - self.done} | {spread} |"


@dataclass
class Try:
    """One injection of a fault; call `strike` when the fault ends, if it lasts."""

    row: Row
    since_s: float

    def strike(self) -> None:
        """Start measuring the time to recover."""
        self.since_s = time.monotonic()

    def recovered(self, *, lost: int = 0) -> None:
        self.row.recover_s.append(time.monotonic() - self.since_s)
        self.row.lost += lost


@dataclass
class Fault:
    """The counts of one test; `tries`: how often it has to inject its fault."""

    row: Row
    tries: int

    @contextmanager
    def trial(self) -> Iterator[Try]:
        self.row.tries += 1
        yield Try(self.row, time.monotonic())
        self.row.done += 1

    def count(self, *, tries: int, lost: int) -> None:
        """Add tries that were counted elsewhere, without a time to recover."""
        self.row.tries += tries
        self.row.done += tries
        self.row.lost += lost


class FaultTable:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def row(self, name: str) -> Row:
        return self.rows.setdefault(name, Row())

    def text(self) -> str:
        lines = [row.line(name) for name, row in sorted(self.rows.items())]
        return "\n".join([HEAD, "|---|---|---|---|---|", *lines]) + "\n"

    def write(self, path: Path) -> None:
        path.write_text(self.text())
