"""Shared by tests of the spool."""

from __future__ import annotations

from pathlib import Path

from edge.config import SpoolConfig
from edge.spool import Spool

TOPIC = "edge/gate/front/events"
SMALLEST = 65_536
PROMPT = SpoolConfig(commit_interval_s=0)
# Nothing is written by itself within a test.
LAZY = SpoolConfig(commit_interval_s=60)


def open_spool(path: Path, config: SpoolConfig = PROMPT, boot_id: str = "boot-1") -> Spool:
    return Spool(path / "spool.sqlite", config, boot_id=boot_id)


def body(number: int, size: int = 300) -> bytes:
    return b'{"n":%d,"pad":"%s"}' % (number, b"x" * size)


def seqs(spool: Spool) -> list[int]:
    return [event.seq for event in spool.pending(0, 100_000)]
