"""A lock on a file that one command at a time may write."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edge.errors import NO_ROOM, EdgeError


@contextmanager
def held(path: Path, option: str) -> Iterator[None]:
    """Lock a file, which need not exist, for the block; make its folder.

    option: the command's option that names another file, for messages. Raises EdgeError while
    another command holds the lock, as each would overwrite the other's work, and when the folder
    cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(lock)
    except BlockingIOError:
        told = "another edge-tools writes to it"
        raise EdgeError(f"{path}: {told}; end that, or name another file with {option}") from None
    except OSError as error:
        raise unwritable(path, error, option) from None
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError, option: str) -> EdgeError:
    """Return the error for a file that cannot be written, with the fix."""
    is_full = error.errno in NO_ROOM
    fix = "make room and start again" if is_full else f"name a file you may write with {option}"
    return EdgeError(f"{path}: {error.strerror}; {fix}")


def _locked(lock: Path) -> TextIO:
    """Return the lock file, open and locked; BlockingIOError while another process has it."""
    while True:
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, file):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # its owner removed it at its end, after we had opened it


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
