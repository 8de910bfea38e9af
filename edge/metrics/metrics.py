"""Serves the metrics over HTTP, or writes them as a file for node_exporter.

Over HTTP values are a few seconds old at most; the file is written every
`publish.stats_interval_s`. Imports prometheus_client only when used.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edge import durable
from edge.config import MetricsConfig, in_url
from edge.errors import ConfigError, WebError, install_command
from edge.messages import Info, Stats
from edge.metrics.families import Collector

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

logger = logging.getLogger(__name__)


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
        from prometheus_client import make_wsgi_app

        from edge.metrics.server import Server

        host = self._config.host
        where = f"{in_url(host)}:{port}"
        try:
            server = Server(host, port, make_wsgi_app(registry))
        except (OSError, UnicodeError) as error:
            number = getattr(error, "errno", None) or 0
            fault = os.strerror(number) if number > 0 else "no such host"
            raise WebError(
                f"metrics: {where}: {fault}; choose another metrics.port or metrics.host"
            ) from None
        self._stack.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, name="metrics-http")
        thread.start()
        self._stack.callback(thread.join)
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
