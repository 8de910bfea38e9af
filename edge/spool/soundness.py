"""Checks whether the spool's file is sound, and names the fix when it is not.

SQLite's `quick_check` covers the file's structure, not the cells' values; a damaged topic or number
would go to the broker, or stop the publisher.
"""

from __future__ import annotations

import math
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

from edge.messages import SpooledEvent

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_/-]{1,512}")


class DamagedError(sqlite3.DatabaseError):
    """The file is not a spool, or is damaged."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def check_content(db: sqlite3.Connection) -> None:
    """Raise sqlite3.Error when a column is missing or a row is not a valid event.

    Call it before adding events: new events must not share a file that has to be moved aside.
    """
    db.execute("SELECT id, boot_id, first_seq, last_seq, count FROM lost").fetchall()
    for fields in db.execute("SELECT row, boot_id, seq, topic, body, put_mono_s FROM event"):
        event_of(fields)


def event_of(fields: tuple[Any, ...]) -> SpooledEvent:
    """Return a row as an event; raise DamagedError when no daemon can have written it."""
    event = SpooledEvent(*fields)
    is_event = isinstance(event.body, bytes) and event.body[:1] + event.body[-1:] == b"{}"
    if not (is_event and isinstance(event.seq, int) and isinstance(event.put_mono_s, float)):
        raise DamagedError(f"row {event.row!r} is not an event")
    for name in (event.topic, event.boot_id):
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            raise DamagedError(f"row {event.row!r} has no topic or boot_id")
    return event


def number_of(cell: object, default: float) -> float:
    """Return a cell as a number, or the default when it is not a finite number."""
    is_number = isinstance(cell, float | int) and math.isfinite(cell)
    return float(cell) if is_number else default  # type: ignore[arg-type]


def is_damage(error: Exception) -> bool:
    """Return whether an SQLite error means damaged content, not a file that cannot be accessed."""
    if "Could not decode to UTF-8" in str(error):  # the only such error without a code
        return True
    # SQLITE_ERROR: our statements are fixed, so only a damaged schema can make one fail.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
    )


def is_full(error: Exception) -> bool:
    """Return whether an SQLite error means a disk without room."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def fix_of(error: Exception, path: Path) -> str:
    """Return what the user can do about a file that cannot be opened or written."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another daemon uses it: stop that one or set another state_dir"
    if is_full(error):
        return "free some space or set state_dir to another disk"
    if not os.access(path.parent, os.W_OK) or code in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    ):
        return "make its folder writable for this user or set another state_dir"
    return "check the disk or set another state_dir"
