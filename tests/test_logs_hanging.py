"""A log sink that hangs or fails blocks nothing, and each outage is logged once."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon import Daemon
from edge import logs
from edge.config import LogConfig
from edge.logs import sinks
from waiting import wait_until

COLLECTOR = "http://127.0.0.1:9"  # where none listens


@contextmanager
def syslog_daemon(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(path))
        yield
    path.unlink()


def send(sink: logging.Handler) -> None:
    sink.handle(logging.LogRecord("edge.x", logging.INFO, "x.py", 1, "camera.lost", (), None))


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the events on standard error, with the number of lost records."""
    lines = capsys.readouterr().err.splitlines()
    return [" ".join(w for w in line.split() if w.startswith(("log.", "lost="))) for line in lines]


@pytest.fixture
def _on_stderr() -> Iterator[None]:
    logs.set_up(LogConfig(), environment={})
    yield
    logs.close(logs.install([], "info"))


@pytest.mark.usefixtures("_on_stderr")
def test_odd_record_of_a_library_stops_no_sink(tmp_path: Path) -> None:
    file = tmp_path / "log"
    handlers = logs.make_handlers(LogConfig(file=str(file), otlp=COLLECTOR), environment={})
    for template, value in (("", ()), ("%d items", ("no",)), ("later", ())):
        for handler in handlers[1:]:
            handler.handle(logging.LogRecord("x", logging.INFO, "x.py", 1, template, value, None))
    logs.close(handlers)
    messages = [json.loads(line)["message"] for line in file.read_text().splitlines()]
    assert messages == ["", "later"]


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

    class Hanging(sinks.Sink):
        def emit(self, record: logging.LogRecord) -> None:
            release.wait(30)

    queued = sinks.Queued(Hanging())
    for _ in range(sinks.MAX_WAITING + 50):
        queued.handle(logging.makeLogRecord({"msg": "counted"}))
    assert queued.lost >= 40
    release.set()
    queued.close()


def test_sink_that_hangs_delays_no_other(tmp_path: Path) -> None:
    file, address = tmp_path / "log", tmp_path / "syslog"
    with syslog_daemon(address):  # it never reads, so that sending hangs for ever
        handlers = logs.make_handlers(
            LogConfig(file=str(file), syslog=str(address)), environment={}
        )
        for _ in range(999):  # more than Linux keeps for a socket
            for handler in handlers[1:]:
                send(handler)
        wait_until(lambda: len(file.read_text().splitlines()) == 999)
        logs.close(handlers)


@pytest.mark.usefixtures("_on_stderr")
def test_sink_whose_write_fails_after_it_was_closed_tells_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "CLOSE_S", 0.1)
    hangs, release, failed = threading.Event(), threading.Event(), threading.Event()

    class Failing(sinks.Sink):
        def emit(self, record: logging.LogRecord) -> None:
            hangs.set()
            release.wait(30)
            self.report_lost("gone")
            failed.set()

    queued = sinks.Queued(Failing())
    send(queued)
    assert hangs.wait(30)
    queued.close()
    release.set()
    assert failed.wait(30)
    assert told(capsys) == []


def test_unresponsive_collector_is_abandoned_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setattr(sinks, "CLOSE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = sinks.otlp_sink(f"http://127.0.0.1:{silent.getsockname()[1]}", "gate")
        sink.handle(
            logging.LogRecord("edge.x", logging.WARNING, "x.py", 1, "camera.lost", (), None)
        )
        before_s = time.monotonic()
        sink.close()
        assert time.monotonic() - before_s < sinks.NETWORK_TIMEOUT_S - 1


def test_daemon_stops_in_time_while_a_log_server_hangs(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.create_connection(server.getsockname()),  # takes the only place of those that wait
        Daemon(tmp_path, 1, log={"syslog": f"tcp://127.0.0.1:{server.getsockname()[1]}"}) as daemon,
    ):
        daemon.wait_for_log("camera.state")
        before_s = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - before_s < 10  # with the time-out of each record: a minute


@pytest.mark.usefixtures("_on_stderr")
def test_each_outage_of_a_sink_is_logged_with_its_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "QUIET_S", 0.0)
    sink = sinks.syslog_sink(str(tmp_path / "log"), "gate")
    for losses in (3, 2):
        for _ in range(losses):
            send(sink)
        with syslog_daemon(tmp_path / "log"):
            send(sink)
            send(sink)
        assert told(capsys) == ["log.sink_lost", f"log.sink_back lost={losses}"]
    sink.close()


@pytest.mark.usefixtures("_on_stderr")
def test_sink_that_fails_now_and_then_is_logged_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = sinks.syslog_sink(str(tmp_path / "log"), "gate")
    for _ in range(5):
        send(sink)
        with syslog_daemon(tmp_path / "log"):
            send(sink)
    sink.close()
    assert told(capsys) == ["log.sink_lost"]


@pytest.mark.usefixtures("_on_stderr")
def test_full_queue_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "QUIET_S", 0.0)
    monkeypatch.setattr(sinks, "MAX_WAITING", 5)
    hangs, release, written = threading.Event(), threading.Event(), []

    class Hanging(sinks.Sink):
        def emit(self, record: logging.LogRecord) -> None:
            hangs.set()
            release.wait(30)
            written.append(record)

    queued = sinks.Queued(Hanging())
    send(queued)
    assert hangs.wait(30)
    for _ in range(8):
        send(queued)
    release.set()
    wait_until(lambda: len(written) == 6)
    send(queued)
    queued.close()
    assert told(capsys) == ["log.sink_lost", "log.sink_back lost=3"]
