"""Commands that subscribers send, and the response to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge.config import Score, Seconds
from edge.errors import brief
from edge.messages.payload import Payload


class Response(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """The response to a command."""

    status: Literal["ok", "error"]
    error: str | None = None
    transaction: str | None = None
    result: dict[str, Any] | None = None


Transaction = Annotated[str, Meta(max_length=256)] | None


class Pause(Payload, frozen=True, kw_only=True):
    """`command/pause`: stop detecting, on one camera or all; `for_s` or a restart ends it."""

    camera: str | None = None
    for_s: Seconds | None = None
    transaction: Transaction = None


class Resume(Payload, frozen=True, kw_only=True):
    """`command/resume`: detect again, on one camera or all."""

    camera: str | None = None
    transaction: Transaction = None


class SetThresholds(Payload, frozen=True, kw_only=True):
    """`command/set_thresholds`: use other thresholds until the next reload or restart."""

    min_score: Score | None = None
    labels: dict[str, Score] = msgspec.field(default_factory=dict)
    transaction: Transaction = None


class Snapshot(Payload, frozen=True, kw_only=True):
    """`command/snapshot`: publish the camera's newest whole frame under `snapshot/frame`."""

    camera: str | None = None
    transaction: Transaction = None


class Reload(Payload, frozen=True, kw_only=True):
    """`command/reload`: read the config file again."""

    transaction: Transaction = None


Command = Pause | Resume | SetThresholds | Snapshot | Reload
COMMANDS: Mapping[str, type[Command]] = {
    "pause": Pause,
    "resume": Resume,
    "set_thresholds": SetThresholds,
    "snapshot": Snapshot,
    "reload": Reload,
}


def decode_command(name: str, payload: bytes) -> Command:
    """Return the command of a `command/<name>` message; an empty payload means all defaults.

    Raises ValueError with one line that names the command and the fault.
    """
    kind = COMMANDS.get(name)
    if kind is None:
        raise ValueError(f"unknown command {name[:40]!r}; known: {', '.join(COMMANDS)}")
    try:
        return msgspec.json.decode(payload or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        known = ", ".join(kind.__struct_fields__)
        hint = f"; known: {known}" if "unknown field" in str(error) else ""
        raise ValueError(f"command {name}: {brief(error)}{hint}") from None


class _OnlyTransaction(msgspec.Struct):
    """The readable part of a refused payload, so that the sender can match the response.

    body: of a signed command, its own payload.
    """

    transaction: Transaction = None
    body: Any = None


def transaction_of(payload: bytes) -> str | None:
    """Return the `transaction` of a refused payload, None when it cannot be read.

    That of a signed command is in its body; the signature does not matter here.
    """
    try:
        found = msgspec.json.decode(payload, type=_OnlyTransaction)
        if isinstance(found.body, str):
            found = msgspec.json.decode(found.body, type=_OnlyTransaction)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return found.transaction
