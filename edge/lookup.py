"""Inspects paths that a user named, without the PermissionError that pathlib would raise."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Container
from pathlib import Path

from edge.errors import EdgeError

MAX_FILE_BYTES = 512 * 1024 * 1024


def expanded(text: str, kind: type[EdgeError]) -> Path:
    """Return the path that a user wrote, with `~` and `~user` expanded.

    Raises `kind` when that user does not exist or has no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise kind(f"{text}: no home folder of that user; write the whole path") from None


def real(path: Path) -> Path:
    """Return the absolute path with links resolved; a link to itself stays as it is."""
    return Path(os.path.realpath(path))


def is_folder(path: Path) -> bool:
    """Return whether the path is a folder; False without permission to look."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def is_file(path: Path) -> bool:
    """Return whether the path is a file; False without permission to look."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def files_in(folder: Path, suffixes: Container[str]) -> list[Path]:
    """Return the visible files of these suffixes directly in a folder, sorted by name.

    Skipped hidden files are those macOS writes beside each picture (`._a.jpg`) and unfinished ones.
    Raises OSError when the folder cannot be listed.
    """
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in suffixes
        and not entry.name.startswith(".")
        and not is_folder(entry)
    )


def content(path: Path) -> bytes:
    """Return the content of a plain file.

    Raises OSError, also for a pipe or device, which may never end, and over MAX_FILE_BYTES.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    if found.st_size > MAX_FILE_BYTES:
        raise OSError(errno.EINVAL, f"over {MAX_FILE_BYTES} bytes", str(path))
    return path.read_bytes()


def is_pipe(path: Path) -> bool:
    """Return whether the path is a named pipe; False without permission to look."""
    with contextlib.suppress(OSError):
        return path.is_fifo()
    return False


def why_hidden(path: Path) -> str | None:
    """Return why a path cannot be inspected: no permission, a name too long.

    None when it can, including when nothing is there.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # nothing is there
        return None
    except OSError as error:
        return error.strerror
    return None
