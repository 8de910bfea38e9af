"""JPEGs of the newest frames, with or without boxes: made on request, shared by all clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edge import picture_file
from edge.drawing import draw_box, draw_caption
from edge.values import Image, TrackState
from edge.web.view import Scene, View

MAX_JPEGS_PER_S = 5  # of each kind and camera; more requests get the same picture again
JPEG_QUALITY = 80


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
            is_thin = track.state is TrackState.LOST
            draw_box(bgr, track.box_px, track.label, is_thin=is_thin)
    for track in scene.tracks:
        if track.state is TrackState.CONFIRMED:
            colors = scene.colors.get(track.track_id, ())
            color = colors[0].name if colors else ""
            text = f"{track.label} {track.score:.2f} {color}".rstrip()
            draw_caption(bgr, text, color, track.box_px[:2])
    return bgr
