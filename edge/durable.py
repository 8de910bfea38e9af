"""Files that are there whole or not at all, and what a power cut must not take.

`replace` and `replacing` write a file whole; `write` and `sync_folder` are for what is made of more
than one file, or renamed in another way.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

MAX_NAME_BYTES = 255  # of a file, on every usual file system


def replace(
    path: Path, content: bytes | memoryview, *, is_synced: bool = False, mode: int | None = None
) -> None:
    """Write a file whole or not at all; see `replacing`."""
    with replacing(path, is_synced=is_synced, mode=mode) as file:
        file.write(content)


@contextmanager
def replacing(
    path: Path, *, is_synced: bool = False, mode: int | None = None
) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path`, whole, when the block ends without an error.

    A reader sees the former file or the new one, never a part: that is written beside it as
    `.NAME.part`, which no pattern such as `*.json` finds. An error in the block and a full disk
    leave the former file and no part; a kill leaves a part, which the next write removes. So does a
    power cut where `is_synced`; where not, `path` may be empty after it. Until `sync_folder` of the
    folder it may also bring back the former file.

    The folder must be there. One writer of a path at a time: two would write the same part.
    is_synced: bring the content to the disk before the rename; it wears SD cards.
    mode: of the new file; what the umask leaves of 0666 unless given.
    Raises OSError, which names `path`.
    """
    part = _part(path)
    try:
        part.unlink(missing_ok=True)  # another user's, or a link that would lead root elsewhere
        with part.open("xb") as file:
            yield file
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if is_synced:
                _sync(file)
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(part)):
            error.filename = str(path)
        raise


def _part(path: Path) -> Path:
    """Return `.NAME.part`, or a hash's where that would be too long for a file's name."""
    name = os.fsencode(f".{path.name}.part")
    if len(name) > MAX_NAME_BYTES:
        name = f".{hashlib.sha256(name).hexdigest()}.part".encode()
    return path.with_name(os.fsdecode(name))


def write(path: Path, content: bytes) -> None:
    """Write a file in place; its content is on the disk when this returns.

    A new file's name is there only after `sync_folder` of its folder. Raises OSError.
    """
    with path.open("wb") as file:
        file.write(content)
        _sync(file)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: what was made, renamed and removed in it.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
