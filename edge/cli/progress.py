"""A progress bar on standard error, if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

WIDTH = 30
REFRESH_S = 0.1


def bar(items: Iterable[T], total: int | None, unit: str) -> Iterator[T]:
    """Yield the items and show how many are done, how fast, and how long the rest will take.

    total: number of items, None when unknown.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    started_s, shown_s = time.monotonic(), 0.0
    done = 0
    for item in items:
        yield item
        done += 1
        now_s = time.monotonic()
        if now_s - shown_s >= REFRESH_S:
            shown_s = now_s
            _show(done, total, unit, now_s - started_s)
    _show(done, total, unit, time.monotonic() - started_s)
    sys.stderr.write("\n")


def _show(done: int, total: int | None, unit: str, elapsed_s: float) -> None:
    rate = done / max(elapsed_s, 1e-6)
    if total:
        total = max(total, done)  # a video may state fewer frames than it has
        filled = WIDTH * done // total
        left_s = (total - done) / max(rate, 1e-6)
        text = (
            f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total} {unit}, {left_s:.0f} s left"
        )
    else:
        text = f"{done} {unit}"
    sys.stderr.write(f"\r{text}, {rate:.1f}/s \x1b[K")
    sys.stderr.flush()
