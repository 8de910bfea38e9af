"""JPEGs of the newest frames, with or without boxes: made on request, shared by all clients."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2

from edge import picture_file
from edge.values import ColorScore, Image, Track, TrackState
from edge.web.view import Scene, View

MAX_JPEGS_PER_S = 5  # of each kind and camera; more requests get the same picture again
JPEG_QUALITY = 80
LINE_PX_HEIGHT = 360  # one pixel of line width per this many of the picture's height
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, PLATE = (255, 255, 255), (32, 26, 22)

Bgr = tuple[int, int, int]
# Distinguishable on foliage, asphalt and snow, also with red-green blindness (Okabe and Ito).
BOX_BGR: tuple[Bgr, ...] = (
    (233, 180, 86),
    (0, 159, 230),
    (115, 158, 0),
    (66, 228, 240),
    (167, 121, 204),
    (0, 94, 213),
)
TERM_BGR: dict[str, Bgr] = {
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "gray": (135, 135, 135),
    "red": (40, 40, 215),
    "orange": (30, 130, 245),
    "yellow": (60, 220, 245),
    "green": (70, 160, 50),
    "blue": (215, 105, 40),
    "purple": (165, 60, 125),
    "pink": (190, 140, 245),
    "brown": (40, 75, 120),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded frame; `name` is unique per frame, also after restarts of camera and daemon."""

    name: str
    jpeg: bytes
    made_s: float


class Pictures:
    """Pictures of a view's newest frames; for the web thread alone.

    clock: monotonic, in seconds.
    """

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock
        self._cache: dict[tuple[str, bool], Picture] = {}

    def newest(self, camera: str, *, boxes: bool) -> Picture | None:
        """Return a camera's newest frame as JPEG, with boxes or without; None before the first."""
        scene = self._view.scene(camera)
        if scene is None:
            return None
        captured = f"{round(1e6 * scene.frame.captured_utc_s):x}"
        name = f"{camera}-{captured}-{scene.frame.frame_id}-{boxes:d}"
        cached, now_s = self._cache.get((camera, boxes)), self._clock()
        if cached is None or (cached.name != name and now_s - cached.made_s >= 1 / MAX_JPEGS_PER_S):
            bgr = drawn(scene) if boxes else scene.frame.bgr
            jpeg = picture_file.jpeg(bgr, JPEG_QUALITY)
            cached = self._cache[camera, boxes] = Picture(name, jpeg, now_s)
        return cached


def drawn(scene: Scene) -> Image:
    """Return a copy of the frame with a box and caption on each object in sight.

    A lost object has a thin box where it was last seen, without caption. Captions cover boxes.
    """
    bgr = scene.frame.bgr.copy()
    for track in scene.tracks:
        if track.state in {TrackState.CONFIRMED, TrackState.LOST}:
            _outline(bgr, track)
    for track in scene.tracks:
        if track.state is TrackState.CONFIRMED:
            colors = scene.colors.get(track.track_id, ())
            corner = (round(track.box_px.x), round(track.box_px.y))
            _caption(bgr, f"{track.label} {track.score:.2f}", colors[:1], corner)
    return bgr


def _outline(bgr: Image, track: Track) -> None:
    left, top, right, bottom = map(round, track.box_px.corners)
    line_px = max(1, round(bgr.shape[0] / LINE_PX_HEIGHT))
    is_seen = track.state is TrackState.CONFIRMED
    box_bgr = BOX_BGR[zlib.crc32(track.label.encode()) % len(BOX_BGR)]
    cv2.rectangle(bgr, (left, top), (right, bottom), box_bgr, line_px + is_seen, cv2.LINE_AA)


def _caption(
    bgr: Image, text: str, colors: tuple[ColorScore, ...], corner: tuple[int, int]
) -> None:
    """Write on a dark plate above `corner`, with a patch of the object's color before the text."""
    scale = max(0.42, bgr.shape[0] / 1100)
    thick = max(1, round(scale * 1.4))
    text = f"{text} {colors[0].name}" if colors else text
    patch = [TERM_BGR[color.name] for color in colors if color.name in TERM_BGR]
    (text_px, above), below = cv2.getTextSize(text, FONT, scale, thick)
    pad = max(3, above // 3)
    patch_px = (above + pad) * len(patch)
    width, height = text_px + patch_px + 2 * pad, above + below + pad
    left = max(0, min(corner[0], bgr.shape[1] - width))
    top = max(0, min(corner[1] - height, bgr.shape[0] - height))
    cv2.rectangle(bgr, (left, top), (left + width, top + height), PLATE, cv2.FILLED)
    base = top + above + pad // 2 + 1
    for color in patch:
        ends = (left + pad, base - above), (left + pad + above, base)
        cv2.rectangle(bgr, *ends, color, cv2.FILLED)
        cv2.rectangle(bgr, *ends, WHITE, 1)
    cv2.putText(bgr, text, (left + pad + patch_px, base), FONT, scale, WHITE, thick, cv2.LINE_AA)
