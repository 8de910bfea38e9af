"""JSON output of commands, such as `--json FILE`, and their JSON lines.

Strict JSON, with null for NaN.
"""

from __future__ import annotations

import errno
import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.errors import EdgeError


def write(content: object, path: Path, *, indent: int = 2) -> None:
    """Write JSON into a user's file; create its folder.

    Raises EdgeError when it cannot be written.
    """
    try:  # not `durable.replace`: FILE may be a pipe or /dev/stdout
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(content, indent=indent) + "\n")
    except OSError as error:
        raise _unwritable(path, error.strerror) from None


def check(path: Path | None) -> None:
    """Raise EdgeError if `write` could not write there; to be called before long work."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None
    if path.is_dir():
        raise _unwritable(path, os.strerror(errno.EISDIR))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _unwritable(path, os.strerror(errno.EACCES))


def add_line(content: object, path: Path) -> None:
    """Append a line of JSON, completely or not at all; OSError with the file's name if full."""
    before_bytes = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as file:
            file.write(text(content) + "\n")
    except OSError as error:
        if path.is_file():
            os.truncate(path, before_bytes)
        raise OSError(error.errno, error.strerror, str(path)) from None


def lines(path: Path) -> list[Any]:
    """Return the values of a file that `add_line` wrote; none if it is missing.

    Damaged lines are left out. A truncated last line, as a killed run leaves it, is ended, so that
    `add_line` begins a new one. Raises OSError when that cannot be written.
    """
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    found = []
    for line in content.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def text(content: object, *, indent: int | None = None) -> str:
    """Return strict JSON, with null for numbers that are not finite."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unwritable(path: Path, fault: str | None) -> EdgeError:
    return EdgeError(f"{path}: {fault}; name a file that can be written")
