"""What lies at a path that a user named; pathlib's own questions raise where they may not look."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edge.errors import EdgeError


def expanded(text: str, kind: type[EdgeError]) -> Path:
    """Return the path that a user wrote, `~` and `~user` replaced by the home folder.

    Raises `kind` where there is no such user, or none with a home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise kind(f"{text}: no home folder of that user; write the whole path") from None


def real(path: Path) -> Path:
    """Return where links lead; of one that leads to itself, where it lies."""
    return Path(os.path.realpath(path))


def is_folder(path: Path) -> bool:
    """Return whether there is a folder, as far as one can see."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def is_file(path: Path) -> bool:
    """Return whether there is a file, as far as one can see."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def is_pipe(path: Path) -> bool:
    """Return whether there is a named pipe, as far as one can see."""
    with contextlib.suppress(OSError):
        return path.is_fifo()
    return False


def closed(path: Path) -> str | None:
    """Return why one cannot see what is there: no permission, a name too long; else None."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # nothing is there
        return None
    except OSError as error:
        return error.strerror
    return None
