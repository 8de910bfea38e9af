"""Whether the wall clock is synchronized."""

from __future__ import annotations

from pathlib import Path

TIMESYNC_DIR = Path("/run/systemd/timesync")
# systemd-timesyncd (and systemd's wait-sync for chrony) create it at the first synchronization.
SYNCHRONIZED = TIMESYNC_DIR / "synchronized"


def is_clock_synchronized() -> bool | None:
    """Return whether the wall clock was synchronized since boot, None when that is unknown.

    Source: systemd-timesyncd.service(8), files section.
    """
    if SYNCHRONIZED.exists():
        return True
    return False if TIMESYNC_DIR.is_dir() else None
