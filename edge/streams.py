"""Standard streams that the caller has closed."""

from __future__ import annotations

import os
import sys


def fill_closed() -> None:
    """Open /dev/null for closed standard streams: the next opened file would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
