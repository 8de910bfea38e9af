"""The root logger: what writes as configured is made, installed, replaced and closed."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from edge.config import LogConfig
from edge.errors import ConfigError
from edge.logs.facts import JsonFormatter, TextFormatter
from edge.logs.mqtt import MqttLog
from edge.logs.sinks import Queued, file_sink, otlp_sink, syslog_sink

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
TEXT = "%(levelname)s %(name)s %(message)s"
# Where the config says nothing.
VARIABLES = {
    "format": "EDGE_LOG_FORMAT",
    "file": "EDGE_LOG_FILE",
    "syslog": "EDGE_LOG_SYSLOG",
    "otlp": "EDGE_LOG_OTLP",
}
_ours: list[logging.Handler] = []


class _Stderr(logging.Handler):
    """Standard error as it is when something is said."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a reader that has gone is nobody's failure."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def add_arguments(parser: argparse.ArgumentParser, *, level: str) -> None:
    """Declare `--log-level`, `--log-format` and `--log-file`. level: the default, in words."""
    group = parser.add_argument_group("log")
    group.add_argument("--log-level", choices=LEVELS, help=f"default: {level}")
    group.add_argument("--log-format", choices=FORMATS, help="default: $EDGE_LOG_FORMAT, else text")
    group.add_argument("--log-file", metavar="FILE", help="also here, rotated")


def chosen(args: argparse.Namespace, config: LogConfig) -> LogConfig:
    """Return how to log: as a config's section says, but for what the command line says."""
    given = {"level": args.log_level, "format": args.log_format, "file": args.log_file}
    return msgspec.structs.replace(config, **{key: one for key, one in given.items() if one})


def set_up(
    config: LogConfig,
    *,
    text: str = TEXT,
    device: str = "",
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Let the root logger write as configured; what an earlier call set up is closed.

    Raises ConfigError, with the earlier set-up in place, as `make_handlers` does.
    """
    handlers = make_handlers(config, text=text, device=device, environment=environment)
    close(install(handlers, config.level))


def make_handlers(
    config: LogConfig,
    *,
    text: str = TEXT,
    device: str = "",
    environment: Mapping[str, str] = os.environ,
) -> list[logging.Handler]:
    """Return what writes as configured once it is installed.

    text: format of lines for people. device: names this board in JSON, syslog and OTLP.
    Raises ConfigError when a sink cannot be made.
    """
    config = _with_environment(config, environment)
    stderr = _Stderr()
    is_json = config.format == "json"
    stderr.setFormatter(JsonFormatter(device) if is_json else TextFormatter(text))
    sinks: list[logging.Handler] = []
    if config.file:
        sinks.append(file_sink(Path(config.file), config, device))
    if config.syslog:
        sinks.append(syslog_sink(config.syslog, device))
    if config.otlp:
        sinks.append(otlp_sink(config.otlp, device))
    return [stderr, Queued(sinks)] if sinks else [stderr]


def check(config: LogConfig) -> None:
    """Raise ConfigError when a sink cannot be made.

    A file or folder made for it goes again: it would be closed to a daemon of another user.
    """
    file = Path(config.file or "").absolute()
    new = [path for path in (file, *file.parents) if not os.path.lexists(path)]
    try:
        for handler in make_handlers(config):
            handler.close()
    finally:
        for path in new:
            with contextlib.suppress(OSError):  # it could not be made
                path.unlink() if path == file else path.rmdir()


def install(handlers: list[logging.Handler], level: str) -> list[logging.Handler]:
    """Let the root logger write to these from a level on; return those before, to be closed."""
    root = logging.getLogger()
    before = list(_ours)
    for handler in before:
        root.removeHandler(handler)
    _ours[:] = handlers
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    return before


def close(handlers: list[logging.Handler]) -> None:
    """Write what waits in handlers that are installed no longer; seconds where one hangs."""
    for handler in handlers:
        handler.close()


@contextlib.contextmanager
def published(level: str | None, publish: Callable[[bytes], None]) -> Iterator[MqttLog]:
    """Let the root logger publish, too, within the block; gives what changes the level."""
    handler = MqttLog(publish, level)
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)


def _with_environment(config: LogConfig, environment: Mapping[str, str]) -> LogConfig:
    given = {
        key: environment[name]
        for key, name in VARIABLES.items()
        if environment.get(name) and getattr(config, key) is None
    }
    if given.get("format", "text") not in FORMATS:
        raise ConfigError(f"${VARIABLES['format']}={given['format']}: text or json")
    return msgspec.structs.replace(config, **given)
