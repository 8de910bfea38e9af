"""Polling for a state that no event announces, and two such states."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest


def wait_until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("the awaited state did not come")


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections to a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_running(pid: int) -> bool:
    """Whether a process has not ended; init takes its time to read the exit code of an orphan."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
