"""Whose rights a command uses, and who may read what it makes: the daemon is another user."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ConfigError, EdgeError
from edge.registry import Source


@contextmanager
def read_by_all() -> Iterator[None]:
    """Let every user read what is made inside the block: the daemon is another one than root."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


class AsCaller:
    """Reads a registry with the rights of whoever called: folder or login may be root's alone."""

    def __init__(self, store: Source) -> None:
        self._store = store

    def get(self, key: str, limit: int) -> bytes:
        """Return at most `limit` bytes of an object."""
        with _acting_as(os.getuid(), os.getgid()):
            return self._store.get(key, limit)


@contextmanager
def as_owner(folder: Path) -> Iterator[Path]:
    """Let root act as the owner of the board's folder of models; yield a path to it.

    That user, the daemon's, could have put links there that lead root elsewhere. The path is valid
    inside the block, also where the owner may not enter a folder above (/var/lib/private).
    """
    user, group = _owner(folder) if os.geteuid() == 0 else (0, 0)
    if user == 0:
        yield folder
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    inside = f"/proc/self/fd/{descriptor}"
    try:
        with _acting_as(user, group):
            yield Path(inside)
    except EdgeError as error:
        raise type(error)(str(error).replace(inside, str(folder))) from error
    except ImportError as error:  # modules are loaded when they are needed
        raise ConfigError(
            f"models_dir {folder}: its owner, user {user}, cannot read the Python of this "
            f"command, {sys.prefix} ({error}); install edge where the daemon's user can read it"
        ) from None
    finally:
        os.close(descriptor)


def _owner(folder: Path) -> tuple[int, int]:
    """Return user and group of the first on the way to a folder that is not root's, else root's.

    From there on, that user could put a link in place of what follows, the folder included.
    """
    for path in (folder.absolute(), folder.resolve()):
        for one in (*reversed(path.parents), path):
            found = one.lstat()
            if found.st_uid != 0:
                return found.st_uid, found.st_gid
    return 0, 0


@contextmanager
def _acting_as(user: int, group: int) -> Iterator[None]:
    """Have the rights of a user inside the block; only root, or who was root, may change them."""
    before = os.geteuid(), os.getegid()
    if before == (user, group):
        yield
        return
    try:
        _take_rights(user, group)
    except PermissionError:
        raise ConfigError(
            f"root may not act as user {user} here (it lacks CAP_SETUID or CAP_SETGID); run this "
            "command as that user"
        ) from None
    try:
        yield
    finally:
        _take_rights(*before)


def _take_rights(user: int, group: int) -> None:
    os.seteuid(0)
    os.setgroups([group])
    os.setegid(group)
    os.seteuid(user)


def make_like_above(folder: Path) -> None:
    """Make the board's folder of models, owned like the folder it is made in."""
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for one in missing if os.geteuid() == 0 else ():
            like = missing[-1].parent.stat()
            os.chown(one, like.st_uid, like.st_gid, follow_symlinks=False)
    except OSError as error:
        raise ConfigError(
            f"models_dir {folder}: {error.strerror}; name a folder that can be made"
        ) from None
