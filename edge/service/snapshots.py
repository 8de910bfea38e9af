"""Chooses the crops published as JPEG: the best one of each label's newest object."""

from __future__ import annotations

import cv2

from edge.messages import Message, Topics
from edge.pipeline import crop
from edge.values import Box, EventKind, FrameResult, Image, ObjectEvent

JPEG_QUALITY = 85
MARGIN = 0.1  # of the box, kept around it


class Snapshots:
    """Best crops of one camera's objects."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._best: dict[str, tuple[int, float]] = {}  # track id and score by label

    def messages(self, result: FrameResult) -> list[Message]:
        """Return a retained JPEG for each event whose object is newer or scores higher than before.

        Newer objects have larger track ids. Objects not seen in this frame are left out: their box
        is only a prediction.
        """
        messages = []
        for event in result.events:
            track = event.track
            rank = (track.track_id, track.score)
            is_seen = track.last_seen_s == result.frame.time_s
            if event.kind is EventKind.END or not is_seen:
                continue
            if rank > self._best.get(track.label, (-1, 0.0)):
                self._best[track.label] = rank
                message = self._message(result, event)
                messages += [message] if message else []
        return messages

    def frame_message(self, camera: str, bgr: Image) -> Message:
        """Return a whole frame as JPEG under `snapshot/frame`."""
        return Message(self._topics.camera(camera, "snapshot/frame"), jpeg(bgr), retain=True)

    def _message(self, result: FrameResult, event: ObjectEvent) -> Message | None:
        bgr = crop(result.frame.bgr, widened(event.track.box_px))
        if bgr is None:
            return None
        topic = self._topics.camera(result.frame.camera, f"snapshot/{event.track.label}")
        return Message(topic, jpeg(bgr), retain=True)


def widened(box_px: Box) -> Box:
    """Return a box with a margin around it."""
    return Box(
        box_px.x - MARGIN * box_px.width,
        box_px.y - MARGIN * box_px.height,
        box_px.width * (1 + 2 * MARGIN),
        box_px.height * (1 + 2 * MARGIN),
    )


def jpeg(bgr: Image) -> bytes:
    """Return an image as JPEG; uint8, (height, width, 3), not empty."""
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded)
