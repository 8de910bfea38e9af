"""What lies at a path that a user named; pathlib raises PermissionError where it may not look."""

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
    """Return the absolute path with links resolved; a link to itself stays as it is."""
    return Path(os.path.realpath(path))


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False where this user may not look."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def is_file(path: Path) -> bool:
    """Return whether there is a file; False where this user may not look."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def is_pipe(path: Path) -> bool:
    """Return whether there is a named pipe; False where this user may not look."""
    with contextlib.suppress(OSError):
        return path.is_fifo()
    return False


def why_hidden(path: Path) -> str | None:
    """Return why the system does not say what is at a path: no permission, a name too long.

    None when it does say, also that nothing is there.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # nothing is there
        return None
    except OSError as error:
        return error.strerror
    return None
