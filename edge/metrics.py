"""Prometheus metrics of the newest `stats`: over HTTP, or as a file for node_exporter.

Source of the names: Prometheus documentation, "Metric and label naming" (base units, `_total`).
Over HTTP values are a few seconds old at most; the file is written every
`publish.stats_interval_s`. Imports prometheus_client only when used.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edge import durable
from edge.config import MetricsConfig, in_url
from edge.errors import ConfigError, WebError, install_command
from edge.messages import Info, Stats

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

logger = logging.getLogger(__name__)

REQUEST_S = 5.0  # for a client to ask
MAX_CLIENTS = 16  # at one time; each holds a thread, of which the unit allows the daemon a number
MQTT_COUNTERS = (
    "connects", "refusals", "sent", "acknowledged", "rejected", "dropped", "commands",
)  # fmt: skip
# One value each: name after `edge_`, help, field of Stats.
GAUGES = (
    ("uptime_seconds", "Time since the daemon's start.", "uptime_s"),
    ("frames_per_second", "Frames whose detector ran, since the last stats.", "frames_per_s"),
    ("temperature_celsius", "Hottest processor zone.", "temperature_c"),
    ("cpu_hertz", "Present clock of the first core.", "cpu_hz"),
    ("load1", "Runnable tasks, mean of the last minute.", "load_1min"),
    ("resident_memory_bytes", "Memory of the daemon that is in RAM.", "rss_bytes"),
)
COUNTERS = (
    ("frames_detected", "Frames whose detector ran.", "detected"),
    ("frames_detected_faster", "Frames whose faster detector ran.", "detected_faster"),
    ("frames_late", "Results handed over after the promised age.", "late"),
    ("colors_shed", "Color crops left out for the budget.", "colors_shed"),
    ("events", "Events handed to the spool.", "events"),
)


class Metrics:
    """Serves or writes metrics while it is entered; does nothing when the config asks for nothing.

    known: returns the newest info and stats, None before the first; called in other threads.
    interval_s: returns how often the textfile is written, which a reload may change.
    Entering raises ConfigError without prometheus_client, WebError when the port cannot be had.
    """

    def __init__(
        self,
        config: MetricsConfig,
        known: Callable[[], tuple[Info | None, Stats | None]],
        interval_s: Callable[[], float],
    ) -> None:
        self._config = config
        self._collector = Collector(known)
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin to serve and write."""
        if self._config.port is None and self._config.textfile is None:
            return self
        check_installed(self._config)
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._collector)
        if self._config.port is not None:
            self._serve(registry, self._config.port)
        if self._config.textfile is not None:
            self._start_writer(registry, Path(self._config.textfile))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and join; a second time does nothing."""
        self._stop.set()
        self._stack.close()

    def _serve(self, registry: CollectorRegistry, port: int) -> None:
        from prometheus_client import start_http_server

        host = self._config.host
        where = f"{in_url(host)}:{port}"
        try:
            server, thread = start_http_server(port, host, registry)
        except (OSError, UnicodeError) as error:
            number = getattr(error, "errno", None) or 0
            fault = os.strerror(number) if number > 0 else "no such host"
            raise WebError(
                f"metrics: {where}: {fault}; choose another metrics.port or metrics.host"
            ) from None
        server.RequestHandlerClass = _bounded(server.RequestHandlerClass)
        _limit_clients(server)
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        logger.info("metrics.started url=%s", f"http://{where}/metrics")

    def _start_writer(self, registry: CollectorRegistry, path: Path) -> None:
        thread = threading.Thread(
            target=self._write_until_stopped, args=(registry, path), name="metrics"
        )
        thread.start()
        self._stack.callback(thread.join)

    def _pause_s(self, written_s: float) -> float:
        """Return how long to wait before looking whether the next write is due, 1 s at most."""
        return min(1.0, max(0.0, written_s + self._interval_s() - time.monotonic()))

    def _write_until_stopped(self, registry: CollectorRegistry, path: Path) -> None:
        """Replace the file at each interval, and remove it at the end; a failure is logged once."""
        from prometheus_client import generate_latest

        told: str | None = ""
        written_s = time.monotonic()
        while not self._stop.wait(self._pause_s(written_s)):
            if time.monotonic() - written_s < self._interval_s():
                continue
            written_s = time.monotonic()
            try:
                # For node_exporter, another user: the unit's umask is 0077. Not synced: old soon.
                durable.replace(path, generate_latest(registry), mode=0o644)
                told = ""
            except OSError as error:
                if error.strerror != told:
                    told = error.strerror
                    logger.warning("metrics.not_written path=%s error=%s", path, error.strerror)
        with suppress(OSError):  # why it cannot be written is logged already
            path.unlink()  # old numbers would pass for new ones


def _bounded(handler: Any) -> Any:
    """Return a request handler that gives up a client that is slow to ask, or has gone."""

    class Bounded(handler):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            self.rfile = io.BufferedReader(_Request(self.connection))

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

    return Bounded


class _Request(io.RawIOBase):
    """Reads a socket for REQUEST_S in all, however often a client sends a byte."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._end_s = time.monotonic() + REQUEST_S

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Return how many bytes were read. Raises TimeoutError when the time is over."""
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


def _limit_clients(server: Any) -> None:
    """Let a threading server answer MAX_CLIENTS at one time and close further connections."""
    free = threading.Semaphore(MAX_CLIENTS)
    start, answer = server.process_request, server.process_request_thread

    def start_if_free(client: socket.socket, address: object) -> None:
        if not free.acquire(blocking=False):
            server.shutdown_request(client)
            return
        try:
            start(client, address)
        except RuntimeError:  # no further thread can be started
            free.release()
            server.shutdown_request(client)

    def answer_and_free(client: socket.socket, address: object) -> None:
        try:
            answer(client, address)
        finally:
            free.release()

    server.process_request, server.process_request_thread = start_if_free, answer_and_free


def check_installed(config: MetricsConfig) -> None:
    """Raise ConfigError when metrics are asked for and their library is missing."""
    if config.port is None and config.textfile is None:
        return
    try:
        importlib.import_module("prometheus_client")
    except ImportError:
        raise ConfigError(
            f"metrics: prometheus_client is missing; run: {install_command('metrics')}"
        ) from None


class Collector:
    """Makes metrics of what is known at the moment of asking.

    Each has the label `device`: several daemons of one board write files into one folder, and
    node_exporter drops a metric that has the name and labels of another.
    """

    def __init__(self, known: Callable[[], tuple[Info | None, Stats | None]]) -> None:
        self._known = known

    def collect(self) -> Iterator[Metric]:
        """Yield all families; none before the first stats."""
        info, stats = self._known()
        device = {} if info is None else {"device": info.device}
        for family in _families(info, stats):
            family.samples = [
                sample._replace(labels={**device, **sample.labels}) for sample in family.samples
            ]
            yield family


def _families(info: Info | None, stats: Stats | None) -> Iterator[Metric]:
    if info is not None:
        yield _labelled("gauge", "edge_info", "What runs.", ("version",), [((info.version,), 1.0)])
        yield _models(info)
    if stats is not None:
        yield from _simple(stats)
        yield from _frames(stats)
        yield from _cameras(stats)
        yield from _connections(stats)


def _labelled(
    kind: str,
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float | None]],
) -> Metric:
    """Return one family; values that are not known are left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    make: Any = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family: Metric = make(name, text, labels=labels)
    for found, value in values:
        if value is not None:
            family.add_metric(list(found), value)  # type: ignore[attr-defined]
    return family


def _quantiles(
    name: str, text: str, values: Iterable[tuple[dict[str, str], dict[str, float]]]
) -> Metric:
    """Return a summary over the last frames. values: labels, and milliseconds by `p50`, `p95`, ….

    Without sum and count, which would be since the start.
    """
    from prometheus_client.core import Metric

    family = Metric(name, text, "summary")
    for labels, times in values:
        for quantile, ms in times.items():
            share = f"{int(quantile.removeprefix('p')) / 100:g}"
            family.add_sample(name, {**labels, "quantile": share}, ms / 1000)
    return family


def _models(info: Info) -> Metric:
    return _labelled(
        "gauge", "edge_model_info", "Loaded models; pulled: the registry's version.",
        ("role", "name", "version", "pulled", "sha256"),
        [
            ((role, model.name, model.version, model.pulled or "", model.sha256), 1.0)
            for role, model in info.models.items()
        ],
    )  # fmt: skip


def _simple(stats: Stats) -> Iterator[Metric]:
    for name, text, field in GAUGES:
        yield _labelled("gauge", f"edge_{name}", text, (), [((), getattr(stats, field))])
    for name, text, field in COUNTERS:
        yield _labelled("counter", f"edge_{name}", text, (), [((), getattr(stats, field))])


def _frames(stats: Stats) -> Iterator[Metric]:
    yield _labelled(
        "counter", "edge_frames_skipped", "Frames without detection, by cause.", ("cause",),
        [((cause,), count) for cause, count in stats.skipped.items()],
    )  # fmt: skip
    text = "Age of frames when handed over."
    yield _quantiles("edge_latency_seconds", text, [({}, stats.latency_ms)])
    stages = [({"stage": stage}, times) for stage, times in stats.stages_ms.items()]
    yield _quantiles("edge_stage_seconds", "Time of a stage.", stages)


def _cameras(stats: Stats) -> Iterator[Metric]:
    cameras = stats.cameras.items()
    yield _labelled(
        "gauge", "edge_camera_live", "1 while frames come.", ("camera",),
        [((name,), float(camera.state == "live")) for name, camera in cameras],
    )  # fmt: skip
    yield _labelled(
        "gauge", "edge_camera_paused", "1 while paused by command.", ("camera",),
        [((name,), float(camera.paused)) for name, camera in cameras],
    )  # fmt: skip
    yield _labelled(
        "counter", "edge_camera_skipped", "Frames without detection, by cause.",
        ("camera", "cause"),
        [
            ((name, cause), count)
            for name, camera in cameras
            for cause, count in camera.skipped.items()
        ],
    )  # fmt: skip
    for field, text in (
        ("frames", "Frames read."),
        ("detected", "Frames whose detector ran."),
        ("bad_frames", "Damaged frames skipped."),
        ("reconnects", "Attempts to open after the first."),
        ("hung", "Hanging readers abandoned."),
    ):
        yield _labelled(
            "counter", f"edge_camera_{field}", text, ("camera",),
            [((name,), getattr(camera, field)) for name, camera in cameras],
        )  # fmt: skip


def _connections(stats: Stats) -> Iterator[Metric]:
    yield _labelled(
        "gauge", "edge_broker_connected", "1 while connected.", (),
        [((), float(stats.mqtt.is_connected))],
    )  # fmt: skip
    for name in MQTT_COUNTERS:
        text = f"Counter {name} of stats.mqtt."
        yield _labelled("counter", f"edge_mqtt_{name}", text, (), [((), getattr(stats.mqtt, name))])
    spool = stats.spool
    for kind, name, text, value in (
        ("gauge", "waiting", "Events not acknowledged.", spool.waiting),
        ("gauge", "used_bytes", "Size of the spool on disk.", spool.used_bytes),
        ("gauge", "writable", "1 while events can be written to disk.", float(not spool.failure)),
        ("counter", "lost", "Events dropped because the spool was full.", spool.lost),
        ("counter", "written_bytes", "Estimate of bytes written.", spool.written_bytes),
    ):
        yield _labelled(kind, f"edge_spool_{name}", text, (), [((), value)])
