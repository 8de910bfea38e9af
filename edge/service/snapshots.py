"""Chooses the crops published as JPEG: the best one of each label's newest object."""

from __future__ import annotations

from edge import picture_file
from edge.messages import Message, Topics
from edge.pipeline import crop
from edge.values import Box, EventKind, FrameResult, Image

JPEG_QUALITY = 85
MARGIN = 0.1  # of the box, kept around it


class Snapshots:
    """Best crops of the cameras' objects."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        # Track id and score by camera and label.
        self._best: dict[tuple[str, str], tuple[int, float]] = {}

    def messages(self, result: FrameResult) -> list[Message]:
        """Return a retained JPEG for each event whose object is newer or scores higher than before.

        Newer objects have larger track ids. Objects not seen in this frame are left out: their box
        is only a prediction.
        """
        frame, messages = result.frame, []
        for event in result.events:
            track = event.track
            if event.kind is EventKind.END or track.last_seen_s != frame.time_s:
                continue
            place, rank = (frame.camera, track.label), (track.track_id, track.score)
            if rank <= self._best.get(place, (0, 0.0)):
                continue
            bgr = crop(frame.bgr, widened(track.box_px))
            if bgr is not None:
                self._best[place] = rank
                messages.append(self._message(frame.camera, track.label, bgr))
        return messages

    def frame_message(self, camera: str, bgr: Image) -> Message:
        """Return a whole frame as JPEG under `snapshot/frame`."""
        return self._message(camera, "frame", bgr)

    def _message(self, camera: str, name: str, bgr: Image) -> Message:
        topic = self._topics.camera(camera, f"snapshot/{name}")
        return Message(topic, picture_file.jpeg(bgr, JPEG_QUALITY), retain=True)


def widened(box_px: Box) -> Box:
    """Return a box with a margin around it."""
    return Box(
        box_px.x - MARGIN * box_px.width,
        box_px.y - MARGIN * box_px.height,
        box_px.width * (1 + 2 * MARGIN),
        box_px.height * (1 + 2 * MARGIN),
    )
