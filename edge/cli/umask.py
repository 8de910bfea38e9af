"""Files that the daemon's user may read, whatever the umask of root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def read_by_all() -> Iterator[None]:
    """Let every user read what is made inside the block: the daemon is another one than root."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
