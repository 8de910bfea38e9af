"""Signal handlers that only set events; the main loop checks them between frames."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_BY_SIGNAL = 128  # plus the signal's number, as shells report it


@contextmanager
def signals(stop: threading.Event, reload: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop`, SIGHUP `reload`; a second stop exits at once.

    Main thread only. Events that the spool has accepted survive the immediate exit. After a stop
    the block leaves these signals ignored, so that a late one does not kill a clean exit.
    """

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(EXIT_BY_SIGNAL + number)
        stop.set()

    def ask_to_reload(_number: int, _frame: FrameType | None) -> None:
        reload.set()

    handlers = {
        signal.SIGTERM: ask_to_stop,
        signal.SIGINT: ask_to_stop,
        signal.SIGHUP: ask_to_reload,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)
