"""The state that the page shows: the main loop writes it, the web thread reads it.

Nothing here waits, encodes or copies an image, so the main loop keeps its latency.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge.messages import CameraHealth, Health, Info, Stats
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
    """The newest info, stats, frames and events; safe between main loop and web thread.

    clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._info: Info | None = None
        self._stats: Stats | None = None
        self._scenes: dict[str, Scene] = {}
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._cameras: dict[str, tuple[str, bool]] = {}  # state, and whether it is paused
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
            before = self._scenes.get(result.frame.camera)
            known = dict(before.colors) if before else {}
            known |= {event.track.track_id: event.colors for event in result.events}
            present = {track.track_id for track in result.tracks}
            colors = {track_id: color for track_id, color in known.items() if track_id in present}
            self._scenes[result.frame.camera] = Scene(result.frame, result.tracks, colors)

    def tell_camera(self, name: str, state: str, *, is_paused: bool) -> None:
        """Store a camera's state."""
        with self._lock:
            self._cameras[name] = state, is_paused

    def forget_camera(self, name: str) -> None:
        """Remove a camera that is there no longer."""
        with self._lock:
            self._cameras.pop(name, None)
            self._scenes.pop(name, None)

    def tell_progress(self) -> None:
        """Store that frames come from each camera now, or that it is being retried."""
        with self._lock:
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

    def scene(self, camera: str) -> Scene | None:
        """Return a camera's newest frame with its tracks, None before the first."""
        with self._lock:
            return self._scenes.get(camera)

    def events(self, limit: int) -> list[bytes]:
        """Return the last encoded `EventBody`s, newest first."""
        with self._lock:
            return list(reversed(self._events))[:limit]

    def health(self) -> Health:
        """Return whether the daemon makes progress."""
        with self._lock:
            now_s = self._clock()
            captured_s = {name: one.frame.captured_mono_s for name, one in self._scenes.items()}
            return Health(
                status="ok" if now_s - self._alive_s <= HEALTHY_S else "failing",
                cameras={
                    name: CameraHealth(
                        state=state,
                        frame_age_s=(
                            round(now_s - captured_s[name], 3) if name in captured_s else None
                        ),
                        paused=is_paused,
                    )
                    for name, (state, is_paused) in self._cameras.items()
                },
            )
