"""Frames as the page's view is told of them."""

from __future__ import annotations

import cv2
import numpy as np

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


def decoded(jpeg: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return bgr
