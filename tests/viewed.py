"""Frames as the page's view is told of them, and what it tells of the daemon's health."""

from __future__ import annotations

import cv2
import numpy as np

from edge.messages import CameraHealth, Health, Info
from edge.values import (
    Box,
    ColorScore,
    EventKind,
    Frame,
    FrameResult,
    ObjectEvent,
    Track,
    TrackState,
)


def track(track_id: int, box_px: Box, state: TrackState = TrackState.CONFIRMED) -> Track:
    return Track(track_id, "person", 0.9, box_px, state, 0.0, 1.0, 3)


def result(frame_id: int, *tracks: Track, color: str | None = None) -> FrameResult:
    """A gray frame with tracks; with a color, each has an event that contains it."""
    bgr = np.full((240, 320, 3), 128, dtype=np.uint8)
    frame = Frame("front", frame_id, bgr, 0.0, 1000.0 + frame_id, 0.0)
    colors = (ColorScore(color, 0.9),) if color else ()
    events = [ObjectEvent(EventKind.NEW, one, 0.9, colors, ()) for one in tracks if color]
    return FrameResult(frame, None, (), tracks, tuple(events))


def health_of(
    state: str, status: str = "ok", *, frame_age_s: float | None = None, paused: bool = False
) -> Health:
    """The health of a daemon with the camera `front`; with an empty state it has not begun."""
    camera = CameraHealth(state=state, frame_age_s=frame_age_s, paused=paused)
    return Health(status=status, cameras={"front": camera} if state else {})


def info_of(*cameras: str) -> Info:
    """The description of a daemon with these cameras."""
    return Info(
        device="gate", version="1.2.3", boot_id="b", models={}, cameras=cameras, labels=(),
        budget_ms=200, commands=(),
    )  # fmt: skip


def decoded(jpeg: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return bgr
