"""Polling for a state that no event announces."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest


def wait_until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("the awaited state did not come")
