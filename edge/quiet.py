"""Holds back standard error, also C++'s, so that the TFLite runtime's greeting stays out of it.

The runtime writes `INFO: Created TensorFlow Lite XNNPACK delegate for CPU.` from C++ when it
loads its first model, and has no option to prevent it. Our commands promise one line for an error
and none for success. All other output is passed on after the block. Output that C++ writes right
before it aborts the process is lost. A pipe would not help, because its reader would be a thread of
the same process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

GREETINGS = (b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",)
_STDERR = 2


def without_greeting() -> AbstractContextManager[None]:
    """Hold back standard error during the block, then write it without the greeting."""
    return held_stderr(lambda line: line.strip() not in GREETINGS)


@contextmanager
def held_stderr(is_wanted: Callable[[bytes], bool]) -> Iterator[None]:
    """Hold back standard error during the block, then write its lines that are wanted."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        before = os.dup(_STDERR)
    except OSError:  # standard error is closed
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
                if is_wanted(line):
                    stderr.write(line)
