"""A hanging log handler blocks neither a reload nor the exit of the process."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest

from edge import logs
from edge.logs import sinks


def test_install_does_not_close_handlers_itself() -> None:
    release = threading.Event()

    class Hanging(logging.Handler):
        def close(self) -> None:
            release.wait(30)

    hanging = Hanging()
    logs.close(logs.install([hanging], "info"))
    assert logs.install([], "info") == [hanging]  # the reload's thread closes it
    release.set()


def test_hanging_log_handler_does_not_block() -> None:
    release = threading.Event()

    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            release.wait(30)

    queued = sinks.Queued([Hanging()])
    for _ in range(sinks.MAX_WAITING + 50):
        queued.handle(logging.makeLogRecord({"msg": "counted"}))
    assert queued.dropped >= 40
    release.set()
    queued.close()


def test_unresponsive_collector_is_abandoned_in_time() -> None:
    pytest.importorskip("opentelemetry.sdk")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = sinks.otlp_sink(f"http://127.0.0.1:{silent.getsockname()[1]}", "gate")
        sink.handle(
            logging.LogRecord("edge.x", logging.WARNING, "x.py", 1, "camera.lost", (), None)
        )
        before_s = time.monotonic()
        sink.close()
        assert time.monotonic() - before_s < sinks.CLOSE_S + 2  # all its time-outs: 9 s
