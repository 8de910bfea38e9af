"""Shared by tests of the spool."""

from __future__ import annotations

import os
import subprocess
import sys
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


def accepting(child: Path, *words: str) -> subprocess.Popen[str]:
    """Start a script that prints the seq of every event that its spool accepted."""
    return subprocess.Popen(
        [sys.executable, str(child), *words],
        env={**os.environ, "PYTHONPATH": str(child.parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )


def printed(child: subprocess.Popen[str], count: int) -> list[int]:
    """The next so many numbers that the script prints."""
    assert child.stdout is not None
    return [int(child.stdout.readline()) for _ in range(count)]


def killed(child: subprocess.Popen[str]) -> list[int]:
    """Kill -9 the script; the numbers that it had printed meanwhile, without one cut off."""
    child.kill()
    return [int(line) for line in child.communicate()[0].splitlines(True) if line.endswith("\n")]
