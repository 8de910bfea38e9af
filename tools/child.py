"""Runs a program as a child process; its failure becomes one line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edge.errors import EdgeError


def output_of(
    command: Sequence[str],
    name: str,
    *,
    timeout_s: float | None = None,
    folder: Path | None = None,
    error: type[EdgeError] = EdgeError,
) -> str:
    """Return what a program prints to standard output.

    name: what messages begin with. folder: where it runs; None: here.
    Raises `error` when the program is missing, fails, or takes longer than `timeout_s`.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except OSError as fault:
        raise error(f"{name}: {fault.strerror}") from None
    except subprocess.TimeoutExpired:
        raise error(f"{name}: not done within {timeout_s:g} s") from None
    if done.returncode:
        raise error(f"{name}: {reason_of(done)}")
    return done.stdout


def reason_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return why a process failed: its last line on standard error, else how it ended."""
    if lines := done.stderr.strip().splitlines():
        return lines[-1]
    if done.returncode < 0:
        return f"its process was killed (signal {-done.returncode})"
    return "it ended without a message"
