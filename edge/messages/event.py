"""Payloads of events and detections, made from their values.

An event's body is encoded once, when it enters the spool; `stamp_event` adds the fields that are
only known when it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from edge.messages.payload import Payload, utc_text
from edge.swatch import lab_of
from edge.values import ColorScore, FrameResult, ObjectEvent


class BoxBody(Payload, frozen=True, kw_only=True):
    """x, y of the upper left corner, width, height."""

    x: float
    y: float
    w: float
    h: float


class ColorBody(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """A basic color term and its share of the object's surface.

    rgb, lab: the surface's color as sRGB levels and CIELAB (D65); left out when unknown.
    """

    name: str
    score: float
    rgb: tuple[int, int, int] | None = None
    lab: tuple[float, float, float] | None = None


class EventBody(Payload, frozen=True, kw_only=True):
    """`<camera>/events` as stored in the spool; `stamp_event` adds the four fields of `Event`.

    id: stable for one object as long as it is followed.
    box, box_px: normalized 0..1 and in pixels of `frame_size` [width, height].
    clock_synced: whether the wall clock was synchronized when the frame was captured, None unknown.
    latency_ms: age of the frame when the event was handed to the spool.
    stages_ms: time each stage took on this frame.
    """

    id: str
    kind: Literal["new", "update", "end"]
    camera: str
    frame_id: int
    label: str
    score: float
    best_score: float
    box: BoxBody
    box_px: BoxBody
    frame_size: tuple[int, int]
    colors: tuple[ColorBody, ...]
    zones: tuple[str, ...]
    captured_utc: str
    clock_synced: bool | None
    duration_s: float
    latency_ms: float
    stages_ms: dict[str, float]


class Event(EventBody, frozen=True, kw_only=True):
    """`<camera>/events` as a subscriber receives it.

    seq: counts the daemon's events from 1 at each start; gaps are visible.
    boot_id: identifies the start of the daemon.
    historical: True when the event waited in the spool for the broker or is sent again.
    """

    seq: int
    boot_id: str
    historical: bool
    published_utc: str


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """An event that waits for the broker's acknowledgement.

    row: position in the spool; grows with every event, also after restarts.
    body: an encoded `EventBody`, fixed when it entered the spool.
    put_mono_s: monotonic clock when it entered; meaningless for an event of another boot.
    """

    row: int
    boot_id: str
    seq: int
    topic: str
    body: bytes
    put_mono_s: float


class LostRange(Payload, frozen=True, kw_only=True):
    """`lost`, QoS 1: a range of events that the full spool dropped, both ends included."""

    boot_id: str
    first_seq: int
    last_seq: int
    count: int


class DetectionBody(Payload, frozen=True, kw_only=True):
    """One box of `<camera>/detections`."""

    label: str
    score: float
    box: BoxBody


class Detections(Payload, frozen=True, kw_only=True):
    """`<camera>/detections`: every processed frame."""

    camera: str
    frame_id: int
    captured_utc: str
    detections: tuple[DetectionBody, ...]


def event_body(
    event: ObjectEvent,
    result: FrameResult,
    *,
    boot_id: str,
    now_s: float,
    clock_synced: bool | None,
) -> EventBody:
    """Return the body of an event; `now_s`: monotonic time when it is handed to the spool."""
    frame, track = result.frame, event.track
    box_px = track.box_px.clipped(frame.size)  # a smoothed box may reach beyond the frame
    return EventBody(
        id=f"{boot_id[:8]}-{frame.camera}-{track.track_id}",
        kind=event.kind.value,
        camera=frame.camera,
        frame_id=frame.frame_id,
        label=track.label,
        score=round(track.score, 4),
        best_score=round(event.best_score, 4),
        box=_box_body(box_px.normalized(frame.size), digits=5),
        box_px=_box_body(box_px, digits=1),
        frame_size=frame.size,
        colors=tuple(_color_body(color) for color in event.colors),
        zones=event.zones,
        captured_utc=utc_text(frame.captured_utc_s),
        clock_synced=clock_synced,
        duration_s=round(track.last_seen_s - track.first_seen_s, 3),
        latency_ms=round(1000 * (now_s - frame.captured_mono_s), 2),
        stages_ms={name: round(ms, 2) for name, ms in result.stage_ms.items()},
    )


def stamp_event(
    body: bytes, *, seq: int, boot_id: str, historical: bool, published_s: float
) -> bytes:
    """Return an encoded `Event`: an encoded `EventBody` with the fields known at sending appended.

    The body's own bytes stay unchanged: of an event sent twice, only `historical` and
    `published_utc` may differ. published_s: seconds since the epoch.
    """
    tail = {
        "seq": seq,
        "boot_id": boot_id,
        "historical": historical,
        "published_utc": utc_text(published_s),
    }
    return body[:-1] + b"," + msgspec.json.encode(tail)[1:]


def detections_body(result: FrameResult) -> Detections:
    """Return the payload of `<camera>/detections` for one frame."""
    frame = result.frame
    return Detections(
        camera=frame.camera,
        frame_id=frame.frame_id,
        captured_utc=utc_text(frame.captured_utc_s),
        detections=tuple(
            DetectionBody(
                label=detection.label,
                score=round(detection.score, 4),
                box=_box_body(detection.box_px.normalized(frame.size), digits=5),
            )
            for detection in result.detections
        ),
    )


def _color_body(color: ColorScore) -> ColorBody:
    lab = lab_of(color.rgb) if color.rgb else None
    return ColorBody(name=color.name, score=round(color.score, 4), rgb=color.rgb, lab=lab)


def _box_body(box: tuple[float, float, float, float], *, digits: int) -> BoxBody:
    x, y, width, height = (round(float(value), digits) for value in box)
    return BoxBody(x=x, y=y, w=width, h=height)
