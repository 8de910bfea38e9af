"""Logs reach standard error, a file, syslog, a collector and MQTT, with the same facts."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from daemon import Daemon
from edge import cli, logs
from edge.config import LogConfig
from edge.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from edge.logs import facts, mqtt, sinks
from fakes import FakeClock
from mosquitto import free_port
from tools import cli as tools_cli
from waiting import wait_until

logger = logging.getLogger("edge.test_logs")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sinks, "CLOSE_S", 20.0)  # all is written, however late the threads
    root = logging.getLogger()
    level = root.level
    yield
    logs.close(logs.install([], "info"))
    root.setLevel(level)


def set_up(**config: Any) -> None:
    logs.set_up(LogConfig(**config), device="gate", environment={})


def record(template: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("edge.x", logging.INFO, "x.py", 1, template, args, None)


@pytest.mark.parametrize("package", ["edge", "tools"])
def test_every_named_value_of_a_message_is_a_field(package: str) -> None:
    for file in (Path(__file__).parents[1] / package).rglob("*.py"):
        split = re.findall(r'logger\.\w+\(\s*"[^"]*\w=[^%\s"]+%', file.read_text())
        assert split == [], file


def test_json_has_event_and_typed_fields(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(format="json")
    logger.warning("camera.lost device=%s retry_s=%.1f tries=%d", "front", 2.5, 3)
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "edge.test_logs",
        "device": "gate",
        "event": "camera.lost",
        "message": "camera.lost device=front retry_s=2.5 tries=3",
        "fields": {"device": "front", "retry_s": 2.5, "tries": 3},
    }


def test_text_format_is_one_readable_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    logger.info("service.started device=%s", "gate")
    assert capsys.readouterr().err == "INFO edge.test_logs service.started device=gate\n"


@pytest.mark.parametrize("is_journal", [True, False])
def test_journal_gets_each_lines_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_journal: bool
) -> None:
    set_up()
    path = tmp_path / "journal"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(stream.fileno())
        inode = status.st_ino + (not is_journal)  # another one: standard error was redirected
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{inode}")
        logger.info("service.started")
        logger.error("camera.lost\nat once")
        assert cli.main(["check-config", str(tmp_path / "none.yaml")]) == EXIT_CONFIG
        monkeypatch.undo()
    lines = path.read_text().splitlines()
    texts = ["INFO edge.test_logs service.started", "ERROR edge.test_logs camera.lost", "at once"]
    prefixes = ["<6>", "<3>", "<3>", "<3>"] if is_journal else [""] * 4
    assert lines[:3] == [prefix + text for prefix, text in zip(prefixes, texts, strict=False)]
    assert lines[3].startswith(f"{prefixes[3]}edge: {tmp_path}/none.yaml")


def test_template_that_does_not_fit_its_values_loses_no_message() -> None:
    assert facts.facts_of(record("100%% of %s", "all"))["message"] == "100% of all"
    assert "fields" not in facts.facts_of(record("plain"))


def test_wrong_template_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    (handler,) = logs.make_handlers(LogConfig(), environment={})
    handler.handle(record("%d items", "no"))
    assert "'%d items'" in capsys.readouterr().err


def test_file_is_json_and_rotates(tmp_path: Path) -> None:
    path = tmp_path / "log" / "edge.log"
    set_up(file=str(path), file_max_bytes=4096, file_count=2)
    for number in range(100):
        logger.info("counted number=%d", number)
    logs.close(logs.install([], "info"))
    names = sorted(one.name for one in path.parent.iterdir())
    assert names == ["edge.log", "edge.log.1", "edge.log.2"]
    assert all(one.stat().st_size <= 4096 for one in path.parent.iterdir())
    texts = [(path.parent / name).read_text() for name in names[::-1]]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    numbers = [line["fields"]["number"] for line in lines]
    assert numbers == list(range(numbers[0], 100))


def test_unwritable_log_file_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"log\.file"):
        set_up(file=str(tmp_path / "file" / "edge.log"))


class Receiver:
    """A real syslog server on a free port."""

    def __init__(self, kind: int) -> None:
        self.lines: list[str] = []
        lines = self.lines

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                lines.append(self.request[0].decode())

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                lines.extend(line.decode().rstrip("\n") for line in self.rfile)

        is_udp = kind == socket.SOCK_DGRAM
        server: Any = socketserver.ThreadingUDPServer if is_udp else socketserver.ThreadingTCPServer
        self.server = server(("127.0.0.1", 0), Datagram if is_udp else Stream)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join(10)
        self.server.server_close()


@pytest.mark.parametrize(
    ("kind", "prefix"), [(socket.SOCK_DGRAM, ""), (socket.SOCK_STREAM, "tcp://")]
)
def test_syslog_gets_rfc5424_with_structured_data(kind: int, prefix: str) -> None:
    with Receiver(kind) as receiver:
        set_up(syslog=f"{prefix}127.0.0.1:{receiver.port}")
        logger.error("camera.lost device=%s reason=%s", "front", 'a "quoted" ] end')
        logger.info("camera.live")
        wait_until(lambda: len(receiver.lines) >= 2 or kind == socket.SOCK_STREAM)
        logs.close(logs.install([], "info"))
        wait_until(lambda: len(receiver.lines) >= 2)
    first, second = receiver.lines
    assert first.startswith("<27>1 20")  # facility daemon (3), severity error (3)
    assert " gate edge " in first
    assert ' camera.lost [edge@32473 logger="edge.test_logs" device="front" ' in first
    assert 'reason="a \\"quoted\\" \\] end"] camera.lost device=front' in first
    assert second.startswith("<30>1 ")


def test_unreachable_syslog_server_is_reported_once_and_reconnected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    sink = sinks.syslog_sink(f"tcp://127.0.0.1:{port}", "gate")
    set_up()
    for _ in range(3):
        sink.handle(record("lost"))
    assert capsys.readouterr().err.count("log.sink_lost") == 1
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    receiver = Receiver(socket.SOCK_STREAM)
    with receiver:
        there = sinks.syslog_sink(f"tcp://127.0.0.1:{receiver.port}", "gate")
        sink.address = there.address  # type: ignore[attr-defined]
        sink.handle(record("found"))
        sink.close()
        wait_until(lambda: receiver.lines)
    there.close()
    assert "found" in receiver.lines[0]


@pytest.mark.parametrize("address", ["ftp://x", "host:99999", ":1", "tcp://"])
def test_invalid_syslog_address_is_a_one_line_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"log\.syslog"):
        set_up(syslog=address)


@pytest.mark.parametrize("address", ["host:4318", "http://", "http://[::1", "http://host:port"])
def test_invalid_collector_address_is_a_one_line_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"log\.otlp"):
        set_up(otlp=address)


def test_collector_gets_severity_body_and_attributes() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    bodies: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append((self.path, content))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        set_up(otlp=f"http://127.0.0.1:{server.server_address[1]}")
        logger.warning("camera.lost device=%s tries=%d", "front", 3)
        logs.close(logs.install([], "info"))
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    ((path, content),) = bodies
    assert path == "/v1/logs"
    (resource,) = ExportLogsServiceRequest.FromString(content).resource_logs
    assert '"gate"' in str(resource.resource)
    (one,) = resource.scope_logs[0].log_records
    assert one.severity_number == 13
    assert one.body.string_value == "camera.lost device=front tries=3"
    values = {pair.key: pair.value for pair in one.attributes}
    assert values["event"].string_value == "camera.lost"
    assert values["tries"].int_value == 3


def test_mqtt_log_is_rate_limited_and_reports_suppressed_records() -> None:
    clock, sent = FakeClock(), []
    handler = mqtt.MqttLog("info", clock)
    for number in range(mqtt.BURST + 30):
        handler.handle(record("counted number=%d", number))
    handler.send_to(lambda payload: sent.append(json.loads(payload)))
    assert [one["fields"]["number"] for one in sent] == [*range(mqtt.BURST)]
    for _ in range(2):
        clock.now_s += 1 / mqtt.PER_SECOND
        handler.handle(record("later"))
    assert len(sent) == mqtt.BURST + 2
    assert [one.get("suppressed") for one in sent[-2:]] == [30, None]


def test_mqtt_log_excludes_records_of_the_publisher_but_not_of_lost_logs() -> None:
    sent: list[bytes] = []

    def publish(payload: bytes) -> None:
        handler.handle(record("said while publishing"))
        sent.append(payload)

    handler = mqtt.MqttLog("info")
    handler.send_to(publish)
    handler.handle(record("once"))
    own = record("mqtt.lost")
    own.name = "edge.publisher.connection"
    handler.handle(own)
    assert len(sent) == 1
    lost = record("log.sink_lost")
    lost.name = "edge.logs.sinks"
    handler.handle(lost)
    assert len(sent) == 2


def test_failing_publisher_loses_only_the_record() -> None:
    def publish(payload: bytes) -> None:
        raise RuntimeError("the thread died")

    handler = mqtt.MqttLog("info")
    handler.send_to(publish)
    handler.handle(record("x"))
    handler.handle(record("%d items", "no"))
    assert handler.lost == 2


@pytest.mark.parametrize("text", ["x", "\x1b"])
def test_large_message_is_truncated(text: str) -> None:
    clock, sent = FakeClock(), []
    handler = mqtt.MqttLog("info", clock)
    handler.send_to(sent.append)
    for _ in range(mqtt.BURST + 2):
        handler.handle(record("counted"))
    clock.now_s += 1 / mqtt.PER_SECOND
    handler.handle(record("event.large text=%s", text * 100_000))
    assert 1000 < len(sent[-1]) <= mqtt.MAX_BYTES
    assert {"event": "event.large", "suppressed": 2}.items() <= json.loads(sent[-1]).items()


def test_environment_and_option_choose_the_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_LOG_FORMAT", "xml")
    assert cli.main(["models"]) == EXIT_CONFIG
    assert "EDGE_LOG_FORMAT=xml: text or json" in capsys.readouterr().err
    monkeypatch.setenv("EDGE_LOG_FORMAT", "text")
    command = ["--log-level", "info", "--log-format", "json", "models"]
    assert cli.main(command) == EXIT_OK
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert set(events) == {"model.loaded"}


def test_command_line_log_options_override_the_config_after_a_reload_too(tmp_path: Path) -> None:
    options = ("--log-format", "json", "--log-level", "info")
    with Daemon(tmp_path, 1, options=options, log={"level": "error"}) as daemon:
        daemon.wait_for_log("service.started")
        for _ in range(2):
            seen = len(daemon.log)
            daemon.signal(signal.SIGHUP)
            wait_until(lambda seen=seen: any("reloaded" in line for line in daemon.log[seen:]), 20)
        assert daemon.stop() == EXIT_OK
    assert all(json.loads(line)["device"] == "gate" for line in daemon.log)


def test_workstation_commands_use_the_same_log_setup(tmp_path: Path) -> None:
    path = tmp_path / "tools.log"
    arguments = ["validate", "color-64", "--log-file", str(path), "--log-level", "debug"]
    assert tools_cli.main(arguments) == EXIT_OK
    logs.close(logs.install([], "info"))
    assert '"event":"model.loaded"' in path.read_text()


def test_last_records_are_written_at_exit(tmp_path: Path) -> None:
    path = tmp_path / "last.log"
    code = (
        "import logging; from edge import logs; from edge.config import LogConfig; "
        f"logs.set_up(LogConfig(file={str(path)!r})); "
        "[logging.info('n number=%d', n) for n in range(200)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert len(path.read_text().splitlines()) == 200
