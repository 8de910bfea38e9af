"""Stand-ins written by hand; each satisfies a protocol that the consumer declares."""

from __future__ import annotations

import threading

import numpy as np

from edge.values import Image


class FakeClock:
    """`edge.budget.Clock`: advances only when told to."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class FakeSource:
    """`edge.capture.Source`: returns the script's items, then nothing.

    script: each step an image, an error to raise, or an event that `read` waits for, as OpenCV
    waits for a camera that hangs.
    """

    def __init__(
        self,
        script: list[Image | Exception | threading.Event],
        *,
        is_live: bool = True,
        fps: float = 0.0,
    ) -> None:
        self.is_live = is_live
        self.fps = fps
        self.frames = 0 if is_live else len(script)
        self.seen_s = 0.0
        self.is_closed = False
        self._rest = list(reversed(script))

    def read(self) -> Image | None:
        while self._rest:
            step = self._rest.pop()
            if isinstance(step, Exception):
                raise step
            if isinstance(step, np.ndarray):
                return step
            step.wait()
        return None

    def close(self) -> None:
        self.is_closed = True
