"""One camera in the main loop: its newest frame, and whether a command has paused it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edge.capture import CaptureState, CaptureStatus, longest_quiet_s
from edge.config import CameraConfig
from edge.values import Frame


@dataclass(slots=True)
class Stream:
    """State of one camera; changed by the main loop alone.

    newest: the newest processed frame; None before the first, and after the camera was lost for so
        long that its objects have ended.
    paused_until_s: monotonic; the command `pause` sets it.
    """

    name: str
    config: CameraConfig
    newest: Frame | None = None
    paused_until_s: float = 0.0

    @property
    def is_paused(self) -> bool:
        """Return whether a command has paused the detector."""
        return time.monotonic() < self.paused_until_s

    @property
    def away_s(self) -> float:
        """Return how long ago the newest frame was captured; 0 before the first."""
        return 0.0 if self.newest is None else time.monotonic() - self.newest.captured_mono_s

    def is_ready(self, status: CaptureStatus) -> bool:
        """Return whether a frame was processed, or the first attempt has failed."""
        return self.newest is not None or status.state in {CaptureState.LOST, CaptureState.ENDED}

    def is_alive(self, status: CaptureStatus) -> bool:
        """Return whether frames are processed as fast as capture promises, or no camera is live."""
        is_overdue = self.away_s > longest_quiet_s(self.config)
        return status.state is not CaptureState.LIVE or not is_overdue
