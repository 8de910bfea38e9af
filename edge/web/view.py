"""The state that the page shows: the main loop writes it, the web thread reads it.

Nothing here waits, encodes or copies an image, so the main loop keeps its latency.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge.messages import Health, Info, Stats
from edge.values import ColorScore, Frame, FrameResult, Track

MAX_EVENTS = 100
# As long as the unit's WatchdogSec, so that Docker restarts the daemon when systemd would.
HEALTHY_S = 30.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A frame and its tracks; colors by track id, dominant first."""

    frame: Frame
    tracks: tuple[Track, ...]
    colors: dict[int, tuple[ColorScore, ...]]


class View:
    """The newest info, stats, frame and events; safe between main loop and web thread.

    clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._info: Info | None = None
        self._stats: Stats | None = None
        self._scene: Scene | None = None
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._camera = ""
        self._is_paused = False
        self._alive_s = float("-inf")

    # Called by the main loop.

    def tell_info(self, info: Info) -> None:
        """Store the description of this device."""
        with self._lock:
            self._info = info

    def tell_stats(self, stats: Stats) -> None:
        """Store the newest counters."""
        with self._lock:
            self._stats = stats

    def tell_event(self, body: bytes) -> None:
        """Store an encoded `EventBody`; the last MAX_EVENTS are kept."""
        with self._lock:
            self._events.append(body)

    def tell_frame(self, result: FrameResult) -> None:
        """Store a processed frame by reference; an object's colors come from its events."""
        with self._lock:
            known = dict(self._scene.colors) if self._scene else {}
            known |= {event.track.track_id: event.colors for event in result.events}
            present = {track.track_id for track in result.tracks}
            colors = {track_id: color for track_id, color in known.items() if track_id in present}
            self._scene = Scene(result.frame, result.tracks, colors)

    def tell_camera(self, state: str, *, is_alive: bool, is_paused: bool) -> None:
        """Store the camera's state; `is_alive`: a frame came, or a retry is in progress."""
        with self._lock:
            self._camera = state
            self._is_paused = is_paused
            if is_alive:
                self._alive_s = self._clock()

    # Called by the web thread.

    @property
    def info(self) -> Info | None:
        """Return the description of this device, None before it is known."""
        with self._lock:
            return self._info

    @property
    def stats(self) -> Stats | None:
        """Return the newest counters, None before the first."""
        with self._lock:
            return self._stats

    @property
    def scene(self) -> Scene | None:
        """Return the newest frame with its tracks, None before the first."""
        with self._lock:
            return self._scene

    def events(self, limit: int) -> list[bytes]:
        """Return the last encoded `EventBody`s, newest first."""
        with self._lock:
            return list(reversed(self._events))[:limit]

    def health(self) -> Health:
        """Return whether the daemon makes progress."""
        with self._lock:
            now_s = self._clock()
            age_s = now_s - self._scene.frame.captured_mono_s if self._scene else None
            return Health(
                status="ok" if now_s - self._alive_s <= HEALTHY_S else "failing",
                camera=self._camera,
                paused=self._is_paused,
                frame_age_s=None if age_s is None else round(age_s, 3),
            )
