"""The root logger: makes, installs, replaces and closes its handlers."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO, get_args

import msgspec

from edge.config import LogConfig, LogFormat, LogLevel
from edge.errors import ConfigError
from edge.logs.facts import JsonFormatter, TextFormatter
from edge.logs.mqtt import MqttLog
from edge.logs.sinks import Queued, Sink, file_sink, otlp_sink, syslog_sink

TEXT = "%(levelname)s %(name)s %(message)s"
# Used for keys that the config leaves unset.
VARIABLES = {
    "format": "EDGE_LOG_FORMAT",
    "file": "EDGE_LOG_FILE",
    "syslog": "EDGE_LOG_SYSLOG",
    "otlp": "EDGE_LOG_OTLP",
}
# Of the journal, by level; source: sd-daemon(3).
PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_ours: list[logging.Handler] = []


class _Stderr(logging.Handler):
    """Standard error, looked up for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a closed standard error is ignored."""
        try:
            sys.stderr.write(for_stderr(self.format(record), record.levelno) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
        except Exception:  # noqa: BLE001 - a library's template that does not fit its values
            self.handleError(record)


def for_stderr(text: str, level: int) -> str:
    """Return text for standard error: for systemd's journal, each line with its priority."""
    if not _is_journal(sys.stderr):
        return text
    return "\n".join(f"<{PRIORITIES.get(level, 6)}>{line}" for line in text.splitlines())


def _is_journal(stream: TextIO) -> bool:
    """Return whether systemd's journal reads a stream. Source: systemd.exec(5), $JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def add_arguments(parser: argparse.ArgumentParser, *, level: str) -> None:
    """Declare `--log-level`, `--log-format` and `--log-file`. level: the default, in words."""
    group = parser.add_argument_group("log")
    group.add_argument("--log-level", choices=get_args(LogLevel), help=f"default: {level}")
    group.add_argument(
        "--log-format", choices=get_args(LogFormat), help="default: $EDGE_LOG_FORMAT, else text"
    )
    group.add_argument("--log-file", metavar="FILE", help="also here, rotated")


def chosen(args: argparse.Namespace, config: LogConfig) -> LogConfig:
    """Return the config's `log` section, overridden by the command line's options."""
    overrides = {"level": args.log_level, "format": args.log_format, "file": args.log_file}
    return msgspec.structs.replace(
        config, **{key: value for key, value in overrides.items() if value}
    )


def set_up(
    config: LogConfig,
    *,
    text: str = TEXT,
    device: str = "",
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Configure the root logger and close the handlers of an earlier call.

    Raises ConfigError as `make_handlers` does; the earlier handlers then stay in place.
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
    """Return the handlers of a config, ready to `install`.

    text: format of lines for people. device: names this board in JSON, syslog and OTLP.
    Raises ConfigError when a sink cannot be made.
    """
    config = _with_environment(config, environment)
    stderr = _Stderr()
    is_json = config.format == "json"
    stderr.setFormatter(JsonFormatter(device) if is_json else TextFormatter(text))
    sinks: list[Sink] = []
    if config.file:
        sinks.append(file_sink(Path(config.file), config, device))
    if config.syslog:
        sinks.append(syslog_sink(config.syslog, device))
    if config.otlp:
        sinks.append(otlp_sink(config.otlp, device))
    return [stderr, *map(Queued, sinks)]


def check(config: LogConfig) -> None:
    """Raise ConfigError when a sink cannot be made.

    A file or folder made for the check is removed: a daemon of another user could not write it.
    """
    file = Path(config.file or "").absolute()
    new = [path for path in (file, *file.parents) if not os.path.lexists(path)]
    try:
        for handler in make_handlers(config):
            handler.close()
    finally:
        for path in new:
            with contextlib.suppress(OSError):  # it was never made
                path.unlink() if path == file else path.rmdir()


def install(handlers: list[logging.Handler], level: str) -> list[logging.Handler]:
    """Let the root logger use these handlers and level; return the old handlers to `close`."""
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
    """Flush and close handlers that are no longer installed; takes seconds when one hangs."""
    for handler in handlers:
        handler.close()


@contextlib.contextmanager
def published(level: str | None) -> Iterator[MqttLog]:
    """Let the root logger also publish within the block; yield the handler."""
    handler = MqttLog(level)
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)


def _with_environment(config: LogConfig, environment: Mapping[str, str]) -> LogConfig:
    overrides = {
        key: environment[name]
        for key, name in VARIABLES.items()
        if environment.get(name) and getattr(config, key) is None
    }
    if overrides.get("format", "text") not in get_args(LogFormat):
        raise ConfigError(f"${VARIABLES['format']}={overrides['format']}: text or json")
    return msgspec.structs.replace(config, **overrides)
