"""Keeps the TFLite runtime's greeting out of standard error.

The runtime writes `INFO: Created TensorFlow Lite XNNPACK delegate for CPU.` from C++ when it
loads a first model, and offers no switch for it; commands promise one line for a mistake, and
none for success. Everything else that is written meanwhile is passed on after the block, but what
C++ writes right before it aborts the process is lost: nobody is left to pass it on. A pipe would
not help, for its reader is a thread of the same process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

GREETINGS = (b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",)
_STDERR = 2


@contextmanager
def without_greeting() -> Iterator[None]:
    """Hold back the process's standard error during the block, then write it, less the greeting."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        before = os.dup(_STDERR)
    except OSError:  # closed: nobody reads it
        yield
        return
    with (
        os.fdopen(os.memfd_create("stderr"), "w+b") as held,  # needs no writable disk
        os.fdopen(before, "wb", buffering=0) as stderr,
    ):
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr.fileno(), _STDERR)
            held.seek(0)
            for line in held:
                if line.strip() not in GREETINGS:
                    stderr.write(line)
