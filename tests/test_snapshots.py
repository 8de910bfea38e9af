"""Which crops become snapshots: the best of each label's newest object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.messages import Topics
from edge.service.snapshots import Snapshots
from edge.values import Box, EventKind, Frame, FrameResult, ObjectEvent, Track, TrackState

JPEG_START = b"\xff\xd8"


def result(*events: ObjectEvent) -> FrameResult:
    frame = Frame("front", 1, np.zeros((48, 64, 3), np.uint8), 0.0, 0.0, 0.0)
    return FrameResult(frame, None, (), tuple(event.track for event in events), events)


def event(track_id: int, score: float, kind: EventKind = EventKind.UPDATE) -> ObjectEvent:
    box_px = Box(4, 4, 20, 20)
    track = Track(track_id, "person", score, box_px, TrackState.CONFIRMED, 0.0, 0.0, 3)
    return ObjectEvent(kind, track, score, (), ())


def test_each_better_view_of_an_object_is_published():
    snapshots = Snapshots(Topics("edge", "gate"))
    scores = [0.5, 0.7, 0.6, 0.8]
    told = [snapshots.messages(result(event(1, score))) for score in scores]
    assert [len(messages) for messages in told] == [1, 1, 0, 1]
    assert told[0][0].topic == "edge/gate/front/snapshot/person"
    assert told[0][0].payload.startswith(JPEG_START)
    assert told[0][0].retain


def test_an_older_object_never_takes_the_place_of_a_newer_one():
    snapshots = Snapshots(Topics("edge", "gate"))
    assert snapshots.messages(result(event(1, 0.9)))
    assert snapshots.messages(result(event(2, 0.4)))
    assert not snapshots.messages(result(event(1, 0.95)))
    assert not snapshots.messages(result(event(2, 0.9, EventKind.END)))
    assert not snapshots.messages(result(event(1, 0.99)))
    assert snapshots.messages(result(event(2, 0.5)))


def test_a_predicted_box_is_no_snapshot():
    snapshots = Snapshots(Topics("edge", "gate"))
    assert snapshots.messages(result(event(1, 0.5)))
    better = event(1, 0.9)
    unseen = replace(better, track=replace(better.track, last_seen_s=-0.1))
    assert not snapshots.messages(result(unseen))
    assert snapshots.messages(result(better))
