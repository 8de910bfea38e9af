"""Frozen values passed from stage to stage; no behaviour beyond simple geometry.

Boxes are x, y, width, height with the origin in the frame's upper left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Used in place of a basic color term when none is clear enough.
UNKNOWN_COLOR = "unknown"

Image = NDArray[np.uint8]
Point = tuple[float, float]
Polygon = tuple[Point, ...]


class Box(NamedTuple):
    """A rectangle; the variable's name says its space (`box_px` or `box_norm`)."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of_corners(cls, left: float, top: float, right: float, bottom: float) -> Box:
        """Return the box between two corners."""
        return cls(left, top, right - left, bottom - top)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom."""
        return self.x, self.y, self.x + self.width, self.y + self.height

    @property
    def area(self) -> float:
        """Return width times height, in the box's own unit squared."""
        return self.width * self.height

    @property
    def center(self) -> Point:
        """Return x and y of the middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def iou(self, other: Box) -> float:
        """Return intersection over union with `other`, 0..1; 0 when they do not overlap."""
        overlap = self.overlap_area(other)
        return overlap / (self.area + other.area - overlap) if overlap else 0.0

    def overlap_area(self, other: Box) -> float:
        """Return the area that both boxes cover, in their unit squared."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return width * height if width > 0 and height > 0 else 0.0

    def clipped(self, frame_size: tuple[int, int]) -> Box:
        """Return the part inside a frame of (width, height); may be empty."""
        left, top, right, bottom = (
            min(max(edge, 0), side) for edge, side in zip(self.corners, frame_size * 2, strict=True)
        )
        return Box.of_corners(left, top, right, bottom)

    def normalized(self, frame_size: tuple[int, int]) -> Box:
        """Return the box in units of the frame's (width, height)."""
        width, height = frame_size
        return Box(self.x / width, self.y / height, self.width / width, self.height / height)


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured image.

    bgr: uint8, (height, width, 3); owned by the frame, never modified.
    frame_id: counts the camera's delivered frames from 1.
    captured_mono_s: monotonic clock when the source returned the frame; for files read as fast as
        possible, where frames wait for their turn, when it was taken.
    captured_utc_s: wall clock when the source returned the frame, seconds since the epoch.
    time_s: the time used by motion gate, tracker and events. It equals captured_mono_s; for files
        read as fast as possible it is the position in the file, growing over loops, so that a
        replay does not depend on the machine's speed.
    """

    camera: str
    frame_id: int
    bgr: Image
    captured_mono_s: float
    captured_utc_s: float
    time_s: float

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) in pixels."""
        height, width = self.bgr.shape[:2]
        return width, height


@dataclass(frozen=True, slots=True)
class Detection:
    """An object found in one frame; score 0..1."""

    label: str
    score: float
    box_px: Box


@dataclass(frozen=True, slots=True)
class ColorScore:
    """The share of an object's surface that has a basic color term's name, 0..1.

    rgb: the color of that surface, sRGB levels 0..255; None when it was not measured.
    """

    name: str
    score: float
    rgb: tuple[int, int, int] | None = None


class TrackState(StrEnum):
    """State of a track: not yet confirmed, in sight, out of sight, ended."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Track:
    """One object followed through frames.

    track_id: unique in the daemon's life for this camera, never reused.
    box_px: smoothed position in the frame.
    first_seen_s, last_seen_s: time (`Frame.time_s`) of first and last matched detection.
    hits: matched detections so far.
    """

    track_id: int
    label: str
    score: float
    box_px: Box
    state: TrackState
    first_seen_s: float
    last_seen_s: float
    hits: int


class SkipCause(StrEnum):
    """Why the detector did not run on a frame; every skipped frame has exactly one cause."""

    STALE = "stale"
    BUDGET = "budget"
    MOTION = "motion"
    THERMAL = "thermal"
    PAUSED = "paused"


OVER_BUDGET = frozenset({SkipCause.STALE, SkipCause.BUDGET, SkipCause.THERMAL})


class EventKind(StrEnum):
    """Kind of an event in an object's life, as published."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """A change in the life of a tracked object, before it is numbered and encoded.

    colors: dominant first; empty until the color model has seen the object.
    zones: names of the zones its foot point is in.
    """

    kind: EventKind
    track: Track
    best_score: float
    colors: tuple[ColorScore, ...]
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The pipeline's result for one frame.

    skipped: cause when the detector did not run, else None.
    colors_shed: color crops that were due and did not fit the budget.
    stage_ms: milliseconds spent by each stage that ran, by stage name.
    """

    frame: Frame
    skipped: SkipCause | None
    detections: tuple[Detection, ...]
    tracks: tuple[Track, ...]
    events: tuple[ObjectEvent, ...]
    colors_shed: int = 0
    stage_ms: dict[str, float] = field(default_factory=dict)
