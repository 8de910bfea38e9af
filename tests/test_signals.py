"""Signals set events; after a stop they no longer reach the process."""

from __future__ import annotations

import signal
import threading

import pytest

from edge.service.signals import signals

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_late_signal_does_not_end_a_clean_exit(number: int) -> None:
    stop, reload = threading.Event(), threading.Event()
    with signals(stop, reload):
        signal.raise_signal(number)
    assert (stop.is_set(), reload.is_set()) == (True, False)
    assert {signal.getsignal(late) for late in NUMBERS} == {signal.SIG_IGN}


def test_handlers_come_back_when_nothing_asked_to_stop() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    stop, reload = threading.Event(), threading.Event()
    with signals(stop, reload):
        signal.raise_signal(signal.SIGHUP)
    assert (stop.is_set(), reload.is_set()) == (False, True)
    assert [signal.getsignal(number) for number in NUMBERS] == before
