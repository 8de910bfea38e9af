"""Several cameras for one loop, in turns.

Method: of the cameras with a frame, the one whose detector ran longest ago is next, so that scarce
time is shared. A camera that had its turn waits until every other one with a frame had its own, so
that one whose frames are always skipped, because they come too late, does not hold up the others.
A camera whose frames have grown too old while those of others were detected, STARVED of them, is
owed a turn: the others wait IN_STEP_S for it. Otherwise, of cameras in step, the one whose frames
come a little earlier would get every turn that there is time for.
Earliest deadline first would starve: while frames come faster than they are taken, each is soon
replaced by a newer one, and the camera whose frames happen to be a little older gets every turn.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Self

from edge.capture.camera import Camera, CaptureStatus
from edge.capture.reader import Opener
from edge.capture.source import check_source, open_source
from edge.config import CameraConfig
from edge.errors import EdgeError
from edge.values import Frame

IN_STEP_S = 0.05  # of two cameras in step, how much later one's frames may come
STARVED = 4  # detector's runs on other cameras' frames since a camera's own


def check_sources(configs: Mapping[str, CameraConfig]) -> None:
    """Raise what `check_source` raises for the first camera at fault, with its name."""
    for name, config in configs.items():
        try:
            check_source(config)
        except EdgeError as error:
            raise type(error)(f"camera {name}: {error}") from None


class Cameras:
    """Cameras that run until they are replaced or the block ends; for one thread.

    Entering raises what `Camera` raises. Enter it only once.
    """

    def __init__(
        self, configs: Mapping[str, CameraConfig], *, open_source: Opener = open_source
    ) -> None:
        """Take the cameras' configs by name; `open_source` opens the source that a config names."""
        self._open_source = open_source
        self._changed = threading.Condition()
        self._configs = dict(configs)
        self._cameras: dict[str, Camera] = {}
        self._had_turn: set[str] = set()
        self._runs = 0  # of the detector
        self._detected: dict[str, int] = {}  # by camera, the number of its last run
        self._last_detected: str | None = None  # None also after a frame that was too old
        self._owed: str | None = None

    def __enter__(self) -> Self:
        """Start reading."""
        try:
            for name, config in self._configs.items():
                self._open(name, config)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close all."""
        self.close()

    def close(self) -> None:
        """Stop and join all; a second time does nothing. Statuses remain known."""
        for camera in self._cameras.values():
            camera.stop()
        for camera in self._cameras.values():
            camera.__exit__()

    def _open(
        self,
        name: str,
        config: CameraConfig,
        before: CaptureStatus | None = None,
        *,
        is_patient: bool = False,
    ) -> None:
        camera = Camera(
            name,
            config,
            open_source=self._open_source,
            before=before,
            changed=self._changed,
            is_patient=is_patient,
        )
        self._cameras[name] = camera.__enter__()

    def replace(
        self, names: Collection[str], configs: Mapping[str, CameraConfig]
    ) -> dict[str, CaptureStatus]:
        """Close the cameras of `names`, open those of `configs`; return the former's last status.

        The counters of a camera that is in both continue. A file that turns out unreadable does
        not end the others: it is tried again.
        """
        for name in names:
            self._cameras[name].stop()  # all at once, since each may hang
        last = {}
        for name in names:
            camera = self._cameras.pop(name)
            camera.__exit__()
            last[name] = camera.status
        for name, config in configs.items():
            self._open(name, config, last.get(name), is_patient=True)
        return last

    def status(self, name: str) -> CaptureStatus:
        """Return a camera's state and counters."""
        return self._cameras[name].status

    @property
    def is_over(self) -> bool:
        """Return whether no frame is left to take: all files have ended."""
        return all(camera.is_over for camera in self._cameras.values())

    def take(self, timeout_s: float) -> Frame | None:
        """Return the frame whose turn it is; None on timeout, and at once when `is_over`.

        Raises what `Camera.take` raises.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting() or self.is_over, timeout_s)
            name = self._next()
            if name is None:
                return None
            owed, self._owed = self._owed, None  # one that does not come holds up no further turn
            if owed is not None and self._rank(owed) < self._rank(name):
                self._changed.wait_for(lambda: owed in self._waiting(), IN_STEP_S)
                self._had_turn.discard(owed)
                name = self._next() or name
            self._had_turn.add(name)
        return self._cameras[name].take(0)

    def tell_detected(self, name: str) -> None:
        """Remember that the detector has run on a camera's frame now."""
        self._runs += 1
        self._detected[name] = self._runs
        self._last_detected = name

    def tell_too_old(self, name: str) -> None:
        """Remember that a camera's frame did not fit the budget: a starved one is owed a turn."""
        is_starved = self._runs - self._rank(name) >= STARVED
        if is_starved and self._last_detected not in {None, name}:
            self._owed = name
        self._last_detected = None

    def _next(self) -> str | None:
        """Return the camera whose turn it is, None when no frame waits."""
        waiting = self._waiting()
        if waiting.keys() <= self._had_turn:
            self._had_turn.clear()
        left = waiting.keys() - self._had_turn
        return min(left, key=lambda name: (self._rank(name), waiting[name]), default=None)

    def _rank(self, name: str) -> int:
        return self._detected.get(name, 0)

    def _waiting(self) -> dict[str, float]:
        """Return when the frames that wait were captured, by camera."""
        since = {name: camera.waiting_since_s for name, camera in self._cameras.items()}
        return {name: captured_s for name, captured_s in since.items() if captured_s is not None}
