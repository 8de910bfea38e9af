"""Which crops become snapshots: the best of each label's newest object."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from edge.messages import Topics
from edge.service.snapshots import Snapshots
from edge.values import Box, EventKind, Frame, FrameResult, ObjectEvent, Track, TrackState

JPEG_START = b"\xff\xd8"


def result(*events: ObjectEvent, camera: str = "front") -> FrameResult:
    frame = Frame(camera, 1, np.zeros((48, 64, 3), np.uint8), 0.0, 0.0, 0.0)
    return FrameResult(frame, None, (), tuple(event.track for event in events), events)


def event(track_id: int, score: float, kind: EventKind = EventKind.UPDATE) -> ObjectEvent:
    box_px = Box(4, 4, 20, 20)
    track = Track(track_id, "person", score, box_px, TrackState.CONFIRMED, 0.0, 0.0, 3)
    return ObjectEvent(kind, track, score, (), ())


def test_each_better_view_of_an_object_is_published():
    snapshots = Snapshots(Topics("edge", "gate"))
    scores = [0.5, 0.7, 0.7, 0.6, 0.8]
    published = [snapshots.messages(result(event(1, score))) for score in scores]
    assert [len(messages) for messages in published] == [1, 1, 0, 0, 1]
    assert published[0][0].topic == "edge/gate/front/snapshot/person"
    assert published[0][0].payload.startswith(JPEG_START)
    assert published[0][0].retain


def test_older_object_never_replaces_a_newer_one():
    snapshots = Snapshots(Topics("edge", "gate"))
    assert snapshots.messages(result(event(1, 0.9)))
    assert snapshots.messages(result(event(2, 0.4)))
    assert not snapshots.messages(result(event(1, 0.95)))
    assert not snapshots.messages(result(event(2, 0.9, EventKind.END)))
    assert not snapshots.messages(result(event(1, 0.99)))
    assert snapshots.messages(result(event(2, 0.5)))


def test_each_camera_has_its_own_best_view():
    snapshots = Snapshots(Topics("edge", "gate"))
    assert snapshots.messages(result(event(7, 0.9)))
    (message,) = snapshots.messages(result(event(1, 0.5), camera="door"))
    assert message.topic == "edge/gate/door/snapshot/person"


def test_predicted_box_makes_no_snapshot():
    snapshots = Snapshots(Topics("edge", "gate"))
    assert snapshots.messages(result(event(1, 0.5)))
    better = event(1, 0.9)
    unseen = replace(better, track=replace(better.track, last_seen_s=-0.1))
    assert not snapshots.messages(result(unseen))
    assert snapshots.messages(result(better))


def test_a_snapshot_shows_the_object_with_a_margin_around_it():
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[10:20, 30:50] = 255  # 20 wide, 10 high
    seen = event(1, 0.5)
    seen = replace(seen, track=replace(seen.track, box_px=Box(30, 10, 20, 10)))
    shown = replace(result(seen), frame=replace(result().frame, bgr=frame))
    (message,) = Snapshots(Topics("edge", "gate")).messages(shown)
    gray = cv2.imdecode(np.frombuffer(message.payload, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert gray.shape == (12, 24)
    assert gray[3:9, 4:20].min() > 200
    assert max(gray[0].max(), gray[-1].max(), gray[:, 0].max(), gray[:, -1].max()) < 100


def test_whole_frame_snapshot_is_retained():
    frame = np.zeros((48, 64, 3), np.uint8)
    message = Snapshots(Topics("edge", "gate")).frame_message("front", frame)
    assert (message.topic, message.retain) == ("edge/gate/front/snapshot/frame", True)
    assert message.payload.startswith(JPEG_START)
