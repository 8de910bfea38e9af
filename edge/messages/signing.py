"""Signed commands: a shared key proves the sender, a growing time stamp prevents replay.

Method: HMAC-SHA256 (RFC 2104) over the topic, the time and the body's bytes, so a signed command is
valid for one device and one command name, and nobody can change it. A receiver obeys each time
stamp once and only in growing order (`edge.service.permission`); no list of nonces can overflow.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.errors import ConfigError
from edge.messages.payload import Payload, encode

# Milliseconds of the year 2255; a larger time could only serve to lock out later commands.
MAX_SIGNED_MS = 9_000_000_000_000
MIN_KEY_CHARS = 16


class Signed(Payload, frozen=True, kw_only=True):
    """A command's payload when the device requires a key.

    body: the command's JSON as text; empty means all defaults.
    signed_ms: milliseconds since the epoch by the sender's clock.
    mac: `mac_of` of topic, time and body, in hexadecimal.
    """

    body: str
    signed_ms: Annotated[int, Meta(ge=0, le=MAX_SIGNED_MS)]
    mac: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


def mac_of(key: bytes, topic: str, signed_ms: int, body: str) -> str:
    """Return the message authentication code, 64 hexadecimal digits."""
    text = f"{topic}\n{signed_ms}\n{body}"  # no topic has a line break
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def sign(key: bytes, topic: str, signed_ms: int, body: str) -> bytes:
    """Return the payload to publish on a command's topic."""
    mac = mac_of(key, topic, signed_ms, body)
    return encode(Signed(body=body, signed_ms=signed_ms, mac=mac))


def verify(key: bytes, topic: str, payload: bytes) -> Signed:
    """Return the signed command.

    Raises ValueError when it is not signed with this key for this topic; it gives no details.
    """
    try:
        signed = msgspec.json.decode(payload, type=Signed)
        expected = mac_of(key, topic, signed.signed_ms, signed.body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ValueError("this device asks for signed commands (edge sign-command)") from None
    if not hmac.compare_digest(expected, signed.mac):
        raise ValueError(
            "the signature does not fit; is it the key, and the topic, of this device?"
        )
    return signed


def read_key(path: Path) -> bytes:
    """Return the key: the file's first line.

    Raises ConfigError when the file cannot be read or the line is too short to be a key.
    """
    try:
        line = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(
            f"commands.key_file {path}: {reason}; make it: openssl rand -hex 32"
        ) from None
    if len(line) < MIN_KEY_CHARS:
        raise ConfigError(
            f"commands.key_file {path}: its first line has fewer than {MIN_KEY_CHARS} characters; "
            "make it: openssl rand -hex 32"
        )
    return line.encode()
