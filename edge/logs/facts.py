"""The content of a log record, typed and without secrets, and its formatters."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

HIDDEN = "***"
MIN_SECRET_CHARS = 4  # a shorter one would blank out ordinary words
_EVENT = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)+(?= |;|:|$)")
_CONVERSION = re.compile(r"(?:(\w+)=)?%(?:%|[-#0 +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z])")
# Neither pattern begins with a repetition: a long word would take quadratic time.
_LOGIN = re.compile(r"://[^\s/]*@")
# The first kind is left as it is: a file's name before a reason, as `/etc/edge/password: No such`.
_NAMED = re.compile(
    r"""(?ix) / [^\s/?&=,;'"]* ['"]? :\s
        | ( (?:password|passwd|secret|token|api_?key) ['"]? [=:] [ ]? ) \S+"""
)
_secrets: set[str] = set()


def hide(secret: str | None) -> None:
    """Remove a secret from all records logged from now on."""
    if secret and len(secret) >= MIN_SECRET_CHARS:
        _secrets.add(secret)


def redacted(text: str) -> str:
    """Return text without secrets."""
    # The longest first: one may begin like another. A copy, too: any thread may `hide` meanwhile.
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _NAMED.sub(_hidden, _LOGIN.sub(f"://{HIDDEN}@", text))


def _hidden(found: re.Match[str]) -> str:
    return found.group() if found.group(1) is None else found.group(1) + HIDDEN


def facts_of(record: logging.LogRecord, device: str = "") -> dict[str, Any]:
    """Return the content of a record for all sinks: JSON types, no secrets.

    Keys: time (UTC), level, logger, message; device, event, fields and exception if present.
    """
    template = str(record.msg)
    event = _EVENT.match(template)
    facts: dict[str, Any] = {
        "time": _utc(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "device": device,
        "event": event.group() if event else "",
        "message": redacted(record.getMessage()),
        "fields": _fields(template, record.args),
        "exception": redacted(_exception(record)),
    }
    return {key: value for key, value in facts.items() if value or key == "message"}


def _fields(template: str, args: Any) -> dict[str, Any]:
    """Return the values of `name=%s` in a message's template."""
    if not isinstance(args, tuple):
        return {}
    matches = [m for m in _CONVERSION.finditer(template) if not m.group().endswith("%%")]
    if len(matches) != len(args):
        return {}
    return {
        match.group(1): _field_value(match.group(1), value)
        for match, value in zip(matches, args, strict=True)
        if match.group(1)
    }


def _field_value(name: str, value: object) -> str | float | bool:
    if isinstance(value, (bool, int, float)):
        return value
    return HIDDEN if _NAMED.search(f"{name}=x") else redacted(str(value))


def _exception(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _utc(created_s: float) -> str:
    moment = datetime.fromtimestamp(created_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text without secrets."""
        return redacted(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's content as JSON."""
        return msgspec.json.encode(facts_of(record, self._device)).decode()


class SyslogFormatter(logging.Formatter):
    """RFC 5424 after the priority that the handler writes; named values as structured data."""

    def __init__(self, device: str, *, end: str) -> None:
        super().__init__()
        self._device = device
        self._end = end

    def format(self, record: logging.LogRecord) -> str:
        """Return `1 TIME HOST edge PID EVENT [edge@32473 name="value"] MESSAGE`."""
        facts = facts_of(record, self._device)
        values = {"logger": facts["logger"], **facts.get("fields", {})}
        data = " ".join(f'{name[:32]}="{_escaped(value)}"' for name, value in values.items())
        text = " ".join([facts["message"], *facts.get("exception", "").splitlines()])
        return (
            f"1 {facts['time']} {self._device or '-'} edge {record.process or '-'} "
            f"{facts.get('event', '-')[:32]} [edge@32473 {data}] {text}{self._end}"
        )


def _escaped(value: object) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", " ".join(str(value).split()))
