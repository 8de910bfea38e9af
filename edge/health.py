"""Notifies the service manager, and reads the board's condition.

Method: `Notifier` implements systemd's notification protocol (sd_notify(3)): it sends datagrams of
`KEY=value` lines to the socket named by $NOTIFY_SOCKET. Without that variable every call does
nothing, so the same code runs in a terminal. It is our own code because the libraries on PyPI
(sdnotify, sd-notify) have had no release since 2019.

Only `progress` feeds the watchdog. The main loop calls it when a frame was processed or a camera
retry is in progress; a thread that feeds it on its own would hide a hung main loop.

`read_condition` and the functions after it read files of /sys, /proc and /run; what a board does
not provide is None.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.errors import one_line

logger = logging.getLogger(__name__)

# Thermal zones of the processor have these words in their names; others are battery, Wi-Fi, ….
_CPU_ZONE_WORDS = ("cpu", "soc", "pkg", "core")
_PLAUSIBLE_C = (-40.0, 150.0)
_THROTTLED = "soc*/soc*:firmware/get_throttled"  # of a Pi 5: soc@107c000000, of others: soc
_THROTTLE_CAUSES = ("under-voltage", "clock capped", "throttled", "soft temperature limit")


class Notifier:
    """Tells the service manager that the daemon is ready, alive, reloading or stopping.

    environment: where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked up.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0)
        self.watchdog_s = _watchdog_s(environment)
        self._fed_s: float | None = None

    def ready(self, status: str) -> None:
        """Report that start-up, or a reload, is complete."""
        self._send(f"READY=1\nSTATUS={one_line(status)}")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(f"STATUS={one_line(text)}")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` ends it."""
        # CLOCK_MONOTONIC in microseconds: systemd 253 requires it for Type=notify-reload.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the daemon is shutting down."""
        self._send("STOPPING=1")

    def progress(self) -> None:
        """Feed the watchdog, at most once in half its period.

        Call it where work is done, as often as you like; no other method feeds it.
        """
        if self.watchdog_s is None:
            return
        now_s = self._clock()
        if self._fed_s is None or now_s - self._fed_s >= self.watchdog_s / 2:
            self._fed_s = now_s
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket; later calls do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            # The manager is restarting or its queue is full; the next message may get through.
            logger.debug("health.notify_failed error=%s", error)


@dataclass(frozen=True, slots=True)
class Condition:
    """The board's condition at one moment; None for values that the board does not provide.

    temperature_c: hottest processor zone.
    cpu_hz: current clock of the first core.
    rss_bytes: memory of this process that is in RAM.
    load_1min: runnable tasks, mean of the last minute.
    is_hot: the firmware reports that it throttles the processor because of heat.
    """

    temperature_c: float | None
    cpu_governor: str | None
    cpu_hz: int | None
    rss_bytes: int | None
    load_1min: float | None
    is_hot: bool = False

    @property
    def is_loaded(self) -> bool:
        """Return whether more tasks want to run than there are cores, besides the daemon's loop."""
        return self.load_1min is not None and self.load_1min > (os.cpu_count() or 1) + 1


def read_condition(sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> Condition:
    """Return temperature, clock, memory and load from the kernel.

    sys, proc: where these file systems are mounted.
    Source: Linux Documentation/ABI/testing/sysfs-class-thermal, proc(5).
    """
    scaling = sys / "devices/system/cpu/cpu0/cpufreq"
    khz = _number(scaling / "scaling_cur_freq")
    load = _text(proc / "loadavg")
    throttling = read_throttling(sys)
    return Condition(
        temperature_c=_temperature_c(sys / "class/thermal"),
        cpu_governor=_text(scaling / "scaling_governor"),
        cpu_hz=None if khz is None else int(khz * 1000),
        rss_bytes=_rss_bytes(proc / "self/status"),
        load_1min=None if load is None else float(load.split()[0]),
        is_hot=throttling is not None and throttling.is_hot,
    )


@dataclass(frozen=True, slots=True)
class Throttling:
    """Why a board's firmware throttles the processor, in words: now, and since boot."""

    now: tuple[str, ...]
    before: tuple[str, ...]

    @property
    def is_hot(self) -> bool:
        """Return whether the cause is heat: a weak power supply caps the clock as well."""
        return bool(self.now) and "under-voltage" not in self.now


def read_throttling(sys: Path = Path("/sys")) -> Throttling | None:
    """Return the report of a Raspberry Pi's firmware, None on other boards.

    Source: Raspberry Pi documentation, `vcgencmd get_throttled`: bits 0 to 3 now, 16 to 19 before.
    """
    texts = [_text(path) for path in _found(sys / "devices/platform", _THROTTLED)]
    try:
        bits = int(next(filter(None, texts), ""), 16)
    except ValueError:
        return None
    causes = tuple(enumerate(_THROTTLE_CAUSES))
    return Throttling(
        now=tuple(cause for bit, cause in causes if bits >> bit & 1),
        before=tuple(cause for bit, cause in causes if bits >> (bit + 16) & 1),
    )


def is_clock_synchronized(timesync: Path = Path("/run/systemd/timesync")) -> bool | None:
    """Return whether the wall clock was synchronized since boot, None when that is unknown.

    timesync: folder in which systemd-timesyncd (and systemd's wait-sync for chrony) makes a file at
        the first synchronization.
    Source: systemd-timesyncd.service(8), files section.
    """
    if (timesync / "synchronized").exists():
        return True
    return False if timesync.is_dir() else None


def _temperature_c(folder: Path) -> float | None:
    """Return the hottest processor zone, else the hottest of all, in degrees Celsius."""
    cpu: list[float] = []
    other: list[float] = []
    for zone in _found(folder, "thermal_zone*"):
        millidegrees = _number(zone / "temp")
        if millidegrees is None or not _PLAUSIBLE_C[0] < millidegrees / 1000 < _PLAUSIBLE_C[1]:
            continue
        kind = (_text(zone / "type") or "").lower()
        (cpu if any(word in kind for word in _CPU_ZONE_WORDS) else other).append(millidegrees)
    hottest = max(cpu or other, default=None)
    return None if hottest is None else hottest / 1000


def _rss_bytes(path: Path) -> int | None:
    """Return VmRSS of a /proc/<pid>/status file in bytes."""
    for line in (_text(path) or "").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def _found(folder: Path, pattern: str) -> list[Path]:
    """Return what is there; empty when it cannot be listed, e.g. no file descriptor is left."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    """Return a file's text without surrounding blanks; None when it cannot be read."""
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):  # a zone that is switched off answers EINVAL
        return None


def _number(path: Path) -> float | None:
    """Return the number in a file; None when it holds no number."""
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def _socket_address(value: str) -> str | None:
    """Return NOTIFY_SOCKET as an address for sendto; `@` marks an abstract socket."""
    if value.startswith("@"):
        return "\0" + value[1:]
    return value if value.startswith("/") else None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return the watchdog's period in seconds; None when it is off or meant for another process."""
    pid = environment.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    try:
        period_s = int(environment.get("WATCHDOG_USEC", "")) / 1e6
    except ValueError:
        return None
    return period_s if period_s > 0 else None
