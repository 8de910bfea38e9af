"""Log sinks besides standard error; each is behind a queue of its own and may fail."""

from __future__ import annotations

import logging
import queue
import socket
import sys
import threading
import time
from collections.abc import Sequence
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler, SysLogHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from edge.config import LogConfig
from edge.errors import ConfigError, install_command
from edge.logs.facts import JsonFormatter, SyslogFormatter, facts_of

logger = logging.getLogger(__name__)

MAX_WAITING = 1000  # records in the queue
CLOSE_S = 2.0  # for waiting records when the process ends
NETWORK_TIMEOUT_S = 5.0
QUIET_S = 60.0  # without a loss; only then does a sink count as back
DEFAULT_SYSLOG_PORT = 514
# Delivering their own records would cause further records.
_CARRIERS = ("opentelemetry", "urllib3", "requests")


class _Reporting(logging.Handler):
    """A sink that warns when it begins to lose records, and says when it is back.

    Once each for an outage: the warning may be lost as well, and one that fails now and then must
    not fill the log with both. lost: since it last was back.
    A closed one tells nothing more, although a write that hung may fail much later.
    """

    sink = ""
    lost = 0
    _lost_s = 0.0
    _is_closed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        before = self.lost
        super().emit(record)
        if self.lost == before:
            self.report_delivered()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the base's
        """Count a record that could not be written."""
        self.report_lost(str(sys.exc_info()[1]))

    def report_lost(self, reason: str, count: int = 1) -> None:
        """Count lost records; log the first of an outage."""
        is_first = not self.lost
        self.lost += count
        self._lost_s = time.monotonic()
        if is_first and not self._is_closed:
            logger.warning("log.sink_lost sink=%s reason=%s", self.sink, reason)

    def report_delivered(self) -> None:
        """Log the end of an outage and how many records it took."""
        is_over = time.monotonic() - self._lost_s >= QUIET_S
        if self.lost and is_over and not self._is_closed:
            lost, self.lost = self.lost, 0
            logger.warning("log.sink_back sink=%s lost=%d", self.sink, lost)

    def close(self) -> None:
        """Close it; see the class."""
        super().close()
        self._is_closed = True


class Sink(_Reporting):
    """A sink that one thread uses."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record without the lock, for which closing would wait as long as it hangs."""
        is_wanted = bool(self.filter(record))
        if is_wanted:
            self.emit(record)
        return is_wanted


class _File(Sink, RotatingFileHandler):
    """JSON lines in a rotated file."""


class _Syslog(Sink, SysLogHandler):
    """A syslog server that may be unreachable: connects when there is a record to send."""

    append_nul = False
    _is_made = False

    def createSocket(self) -> None:  # noqa: N802 - the base's
        """Connect, but not while the handler is made."""
        if not self._is_made:
            return
        if self.socktype == socket.SOCK_STREAM:
            self.unixsocket = False
            host, port = cast("tuple[str, int]", self.address)
            self.socket = socket.create_connection((host, port), NETWORK_TIMEOUT_S)
        else:
            super().createSocket()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base's
        """Close the socket, so that the next record connects again."""
        super().handleError(record)
        broken, self.socket = self.socket, None  # type: ignore[assignment]
        if broken is not None:
            broken.close()


class _Otlp(Sink):
    """An OpenTelemetry collector; the exporter batches in a thread of its own."""

    def __init__(self, endpoint: str, device: str) -> None:
        super().__init__()
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create({"service.name": "edge", "service.instance.id": device or "-"})
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        sink = self

        class Exporter(OTLPLogExporter):  # type: ignore[misc]  # untyped here
            def export(self, batch: Sequence[Any]) -> Any:
                result = super().export(batch)
                if result.name == "FAILURE":
                    sink.report_lost("not delivered", len(batch))
                else:
                    sink.report_delivered()
                return result

        exporter = Exporter(endpoint=endpoint, timeout=NETWORK_TIMEOUT_S)
        self._provider.add_log_record_processor(
            BatchLogRecordProcessor(exporter, schedule_delay_millis=1000)
        )
        self._logger = self._provider.get_logger("edge")

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record to the exporter."""
        try:
            self._logger.emit(_otlp_record(record))
        except Exception:  # noqa: BLE001 - it would end the sink's thread
            self.handleError(record)

    def close(self) -> None:
        """Send waiting records within CLOSE_S: the exporter's own time-outs add up to more."""
        closing = threading.Thread(target=self._provider.shutdown, name="otlp-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        super().close()


def _otlp_record(record: logging.LogRecord) -> Any:
    """Return a record as OpenTelemetry's `LogRecord`."""
    from opentelemetry._logs import LogRecord, SeverityNumber

    facts = facts_of(record)
    severity = record.levelno * 4 // 10 + 1  # 10, 20, 30, 40 -> DEBUG 5, INFO 9, WARN 13, …
    named = {key: facts[key] for key in ("logger", "event", "exception") if key in facts}
    return LogRecord(
        timestamp=int(record.created * 1e9),
        severity_text=record.levelname,
        severity_number=SeverityNumber(min(max(severity, 1), 24)),
        body=facts["message"],
        attributes={**named, **facts.get("fields", {})},
    )


class _Listener(QueueListener):
    """The thread that writes; stopping it takes a bounded time."""

    _is_over = False

    def stop(self) -> None:
        """Write the waiting records, within CLOSE_S; drop those that are left then."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self.enqueue_sentinel()
            thread.join(CLOSE_S)
            self._is_over = True

    def handle(self, record: logging.LogRecord) -> None:
        """Let the sink write a record."""
        if not self._is_over:
            super().handle(record)


class Queued(_Reporting, QueueHandler):
    """Hands records to a sink in another thread; never waits."""

    def __init__(self, sink: Sink) -> None:
        """Start the thread."""
        self._waiting: queue.Queue[Any] = queue.Queue()  # bounded in `enqueue`: the end always fits
        super().__init__(self._waiting)
        self.sink = f"queue of {sink.sink}"
        self._behind = sink
        self._thread = _Listener(self._waiting, sink)
        self._thread.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return the record with its arguments: the sink is in this process and needs the types."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a record into the queue, or count it as lost when it is full."""
        if self._waiting.qsize() < MAX_WAITING:
            super().enqueue(record)
        else:
            self.report_lost(f"it hangs, {MAX_WAITING} records wait")

    def close(self) -> None:
        """Write the waiting records, then close the sink; both within a bounded time."""
        self._thread.stop()
        self._behind.close()
        super().close()


def file_sink(path: Path, config: LogConfig, device: str) -> Sink:
    """Return a rotated file of JSON lines. Raises ConfigError when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = _File(path, maxBytes=config.file_max_bytes, backupCount=config.file_count)
    except OSError as error:
        raise ConfigError(
            f"log.file {path}: {error.strerror}; name one that can be written"
        ) from None
    sink.sink = str(path)
    sink.setFormatter(JsonFormatter(device))
    return sink


def syslog_sink(address: str, device: str) -> Sink:
    """Return a syslog sink: `host`, `host:port` (UDP), `tcp://host:port`, or a socket's path.

    Raises ConfigError when the address is not valid.
    """
    kind = socket.SOCK_STREAM if address.startswith("tcp://") else socket.SOCK_DGRAM
    target: str | tuple[str, int]
    if address.startswith("/"):
        target = address
    else:
        try:
            parts = urlsplit(address if "://" in address else f"udp://{address}")
            target = (parts.hostname or "", parts.port or DEFAULT_SYSLOG_PORT)
        except ValueError:
            target = ("", 0)
        if not target[0] or parts.scheme not in ("udp", "tcp"):
            raise ConfigError(f"log.syslog {address!r}: host:port, tcp://host:port or /dev/log")
    sink = _Syslog(target, SysLogHandler.LOG_DAEMON, kind)
    sink._is_made = True  # noqa: SLF001 - ours
    sink.sink = f"syslog {address}"
    # In a stream, the end of a line separates messages.
    sink.setFormatter(SyslogFormatter(device, end="\n" if kind == socket.SOCK_STREAM else ""))
    return sink


def otlp_sink(endpoint: str, device: str) -> Sink:
    """Return a sink for an OpenTelemetry collector, `http://host:4318`; OTLP over HTTP.

    Raises ConfigError when the extra is not installed or the address is not valid.
    """
    try:
        parts = urlsplit(endpoint)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"log.otlp {endpoint!r}: not an address such as http://host:4318")
    url = endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/logs"
    try:
        sink = _Otlp(url, device)
    except ImportError:
        raise ConfigError(f"log.otlp needs: {install_command('otlp')}") from None
    sink.sink = f"otlp {parts.hostname}"
    sink.addFilter(lambda record: not record.name.startswith(_CARRIERS))
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # `_Reporting` logs losses, once
    return sink
