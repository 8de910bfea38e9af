"""How far long work has come: a bar on a terminal, elsewhere a line in the log each minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOGGED_EVERY_S = 60.0


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and tell on standard error how many are done and how long the rest takes.

    total: number of items; needed where `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not sys.stderr.isatty():
        yield from _logged(items, title, total)
        return
    from rich import progress
    from rich.console import Console

    yield from progress.track(items, title, total, console=Console(stderr=True), transient=True)


def _logged(items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    began_s = told_s = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now_s = time.monotonic()
        if now_s - told_s < LOGGED_EVERY_S or done == total:
            continue
        told_s = now_s
        left_s = "-" if total is None else f"{(now_s - began_s) / done * (total - done):.0f}"
        logger.info(
            "work.progress done=%d of=%s left_s=%s what=%s", done, total or "-", left_s, title
        )
