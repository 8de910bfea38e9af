"""Shared by all payloads: the base class, JSON encoding and the time format."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec


class Payload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all payloads."""


def encode(payload: Payload) -> bytes:
    """Return a payload as JSON bytes."""
    return msgspec.json.encode(payload)


def utc_text(epoch_s: float) -> str:
    """Return seconds since the epoch as ISO 8601 UTC with milliseconds."""
    moment = datetime.fromtimestamp(epoch_s, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
