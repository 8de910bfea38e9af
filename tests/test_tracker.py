"""Tracks of scripted objects; time is given, never waited for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import TrackerConfig
from edge.tracker import Tracker
from edge.values import Box, Detection, Track, TrackState

CONFIG = TrackerConfig(min_hits=3, max_lost_s=2.0, min_iou=0.2, smoothing=0.6)


def person(x: float, y: float = 100, score: float = 0.8, label: str = "person") -> Detection:
    return Detection(label, score, Box(x, y, 40, 100))


def moments(count: int, interval_s: float = 0.1, start_s: float = 0.0) -> Iterator[float]:
    return (start_s + index * interval_s for index in range(count))


def confirmed_tracker(now_s: float = 0.0) -> Tracker:
    """A tracker that follows one person at x = 100, last seen at `now_s`."""
    tracker = Tracker(CONFIG)
    for at_s in (now_s - 0.2, now_s - 0.1, now_s):
        (track,) = tracker.update([person(100)], at_s)
    assert track.state is TrackState.CONFIRMED
    return tracker


def only(tracks: list[Track]) -> Track:
    (track,) = tracks
    return track


@pytest.mark.parametrize("min_hits", [1, 2, 3])
def test_object_is_tentative_until_min_hits_then_confirmed(min_hits: int):
    tracker = Tracker(TrackerConfig(min_hits=min_hits))
    states = [only(tracker.update([person(100)], now_s)).state for now_s in moments(4)]
    assert states == ["tentative"] * (min_hits - 1) + ["confirmed"] * (5 - min_hits)


def test_missed_object_is_lost_then_ended_once_and_its_id_never_returns():
    tracker = confirmed_tracker()
    assert only(tracker.update([], 0.1)).state is TrackState.LOST
    assert only(tracker.update([], 2.0)).state is TrackState.LOST
    assert only(tracker.update([], 2.1)).state is TrackState.ENDED
    assert tracker.update([], 2.2) == []
    assert only(tracker.update([person(100)], 2.3)).track_id == 2


def test_object_found_again_in_time_keeps_its_id_and_first_seen():
    tracker = confirmed_tracker(now_s=10.0)
    tracker.update([], 10.1)
    track = only(tracker.update([person(104)], 11.5))
    assert (track.track_id, track.state) == (1, TrackState.CONFIRMED)
    assert (track.first_seen_s, track.last_seen_s, track.hits) == (9.8, 11.5, 4)
    assert only(tracker.predict(14.0)).state is TrackState.CONFIRMED


def test_tentative_object_that_is_not_seen_again_is_dropped():
    tracker = Tracker(CONFIG)
    tracker.update([person(100)], 0.0)
    reports = [tracker.update([], now_s) for now_s in (0.5, 0.6, 0.8)]
    assert [len(report) for report in reports] == [1, 0, 0]


def test_two_people_crossing_keep_their_ids():
    tracker = Tracker(CONFIG)
    for index, now_s in enumerate(moments(40)):
        right, left = person(100 + 10 * index, y=100), person(490 - 10 * index, y=130)
        tracks = tracker.update([left, right] if index % 2 else [right, left], now_s)
    assert {track.track_id: track.box_px.x for track in tracks} == {
        1: pytest.approx(490, abs=15),
        2: pytest.approx(100, abs=15),
    }


def test_person_hidden_behind_a_pole_comes_back_on_the_other_side():
    tracker = Tracker(CONFIG)
    for index, now_s in enumerate(moments(30)):
        is_hidden = 12 <= index < 20
        found = [] if is_hidden else [person(100 + 15 * index)]
        tracks = tracker.update(found, now_s)
    assert only(tracks).track_id == 1


@pytest.mark.parametrize("interval_s", [0.03, 0.1, 0.5])
def test_walking_person_keeps_one_id_at_any_frame_rate(interval_s: float):
    tracker = Tracker(CONFIG)
    speed_px_s = 60  # 1.5 widths a second
    ids = set()
    for now_s in moments(40, interval_s):
        ids |= {track.track_id for track in tracker.update([person(speed_px_s * now_s)], now_s)}
    assert ids == {1}


def test_irregular_frames_do_not_break_a_track():
    chance = random.Random(3)
    tracker, now_s = Tracker(CONFIG), 0.0
    for _ in range(100):
        now_s += chance.choice([0.03, 0.1, 0.4])
        tracks = tracker.update([person(100 + 50 * now_s)], now_s)
    assert only(tracks).track_id == 1


def test_weak_detection_continues_a_track_but_starts_none():
    tracker = confirmed_tracker()
    weak = person(101, score=0.3)
    assert only(tracker.update([weak], 0.1, lambda _: 0.5)).state is TrackState.CONFIRMED
    assert Tracker(CONFIG).update([weak], 0.1, lambda _: 0.5) == []
    tentative = Tracker(CONFIG)
    tentative.update([person(100)], 0.0)
    assert only(tentative.update([weak], 0.1, lambda _: 0.5)).hits == 1


@pytest.mark.parametrize(
    ("min_iou", "x", "state"),
    [(0.2, 113, TrackState.CONFIRMED), (0.2, 114, TrackState.LOST), (0.6, 113, TrackState.LOST)],
)
def test_weak_detection_continues_a_track_only_where_most_overlaps(
    min_iou: float, x: int, state: TrackState
):
    tracker = Tracker(TrackerConfig(min_hits=1, min_iou=min_iou))
    tracker.update([person(100)], 0.0)
    assert only(tracker.update([person(x, score=0.3)], 0.1, lambda _: 0.5)).state is state


def test_second_weaker_box_of_an_object_starts_no_track():
    tracker = Tracker(CONFIG)
    for now_s in moments(5):
        found = [person(100), person(108, score=0.3)]
        track = only(tracker.update(found, now_s, lambda _: 0.5))
    assert (track.hits, track.score, track.box_px.x) == (5, 0.8, 100)


@pytest.mark.parametrize(
    ("x", "states"), [(100, ["confirmed", "lost"]), (120, ["lost", "confirmed"])]
)
def test_one_box_updates_one_track_even_where_two_overlap(x: int, states: list[str]):
    tracker = Tracker(CONFIG)
    for now_s in moments(5):
        tracker.update([person(100), person(120)], now_s)
    assert [track.state for track in tracker.update([person(x)], 0.5)] == states


def test_object_appearing_beside_a_lost_one_gets_a_new_id():
    confirmed = confirmed_tracker()
    assert [track.track_id for track in confirmed.update([person(150)], 0.1)] == [1, 2]


@pytest.mark.parametrize(
    ("after_s", "x", "is_same"),
    [(0.3, 142, True), (0.3, 143, False), (0.5, 153, True), (1, 154, False)],
)
def test_the_longer_no_detector_ran_the_farther_an_object_may_have_moved(
    after_s: float, x: int, *, is_same: bool
):
    tracker = confirmed_tracker(now_s=10.0)
    tracks = tracker.update([person(x)], 10 + after_s)
    assert [track.track_id for track in tracks] == ([1] if is_same else [1, 2])


def test_object_where_another_was_last_detected_gets_a_new_id():
    tracker = Tracker(CONFIG)
    for index, now_s in enumerate(moments(3)):
        tracker.update([person(100 + 15 * index)], now_s)
    tracker.predict(1.0)  # the first is expected 120 px further
    assert [track.track_id for track in tracker.update([person(130)], 1.0)] == [1, 2]


def test_score_that_starts_a_track_is_per_label():
    tracker = Tracker(CONFIG)
    found = [person(0, score=0.5), person(300, score=0.5, label="car")]
    tracks = tracker.update(found, 0.0, {"person": 0.5, "car": 0.6}.__getitem__)
    assert only(tracks).label == "person"


def test_label_does_not_flap_when_the_detector_wavers():
    tracker = Tracker(CONFIG)
    labels = []
    for index, now_s in enumerate(moments(40)):
        label = "truck" if index % 2 else "car"
        labels.append(only(tracker.update([person(100, label=label)], now_s)).label)
    assert set(labels) == {"car"}


@pytest.mark.parametrize(("old", "new"), [("car", "truck"), ("truck", "car")])
def test_label_changes_when_the_detector_consistently_reports_another(old: str, new: str):
    tracker = Tracker(CONFIG)
    labels = []
    for index, now_s in enumerate(moments(340)):  # 4 s of another label after 30 s
        label = old if index < 300 else new
        labels.append(only(tracker.update([person(100, label=label)], now_s)).label)
    changes = sum(before != after for before, after in itertools.pairwise(labels))
    assert (labels[-1], changes) == (new, 1)


def test_label_does_not_flip_on_the_first_detection_after_a_long_hold():
    tracker = Tracker(CONFIG)
    for now_s in moments(20):
        tracker.update([person(100, label="car")], now_s)
    tracker.hold(11.9)
    assert only(tracker.update([person(100, label="truck")], 12.0)).label == "car"


def test_one_object_found_as_two_classes_is_one_track():
    tracker = Tracker(CONFIG)
    for now_s in moments(5):
        tracks = tracker.update([person(100, label="car"), person(101, label="truck")], now_s)
    assert only(tracks).label == "car"


@pytest.mark.parametrize(("height", "tracks"), [(80, 1), (79, 2)])
def test_overlap_of_two_objects_is_not_that_of_one_found_twice(height: int, tracks: int):
    other = Detection("truck", 0.8, Box(100, 100, 40, height))
    assert len(Tracker(CONFIG).update([person(100, label="car"), other], 0.0)) == tracks


def test_rider_and_bicycle_are_two_tracks():
    tracker = Tracker(CONFIG)
    bicycle = Detection("bicycle", 0.6, Box(80, 150, 90, 60))
    for now_s in moments(5):
        tracks = tracker.update([person(100), bicycle], now_s)
    assert [track.label for track in tracks] == ["person", "bicycle"]


def test_smoothed_box_is_calmer_than_the_detections():
    chance = random.Random(1)
    tracker = Tracker(CONFIG)
    raw, smooth = [], []
    for now_s in moments(100):
        x = 100 + chance.gauss(0, 4)
        raw.append(x)
        smooth.append(only(tracker.update([person(x)], now_s)).box_px.x)
    assert _jitter(smooth[10:]) < 0.75 * _jitter(raw[10:])


def test_smoothed_box_does_not_lag_behind_a_moving_object():
    tracker = Tracker(CONFIG)
    for now_s in moments(50):
        track = only(tracker.update([person(100 + 200 * now_s)], now_s))
    assert track.box_px.x == pytest.approx(100 + 200 * now_s, abs=2)


def test_vertical_motion_is_tracked_like_horizontal():
    chance = random.Random(2)
    tracker, turned = Tracker(CONFIG), Tracker(CONFIG)
    for now_s in moments(50):
        means = (100 + 100 * now_s, 300 - 80 * now_s, 60 + 5 * now_s, 120)
        x, y, width, height = (chance.gauss(mean, 4) for mean in means)
        box_px = only(
            tracker.update([Detection("dog", 0.8, Box(x, y, width, height))], now_s)
        ).box_px
        found = Detection("dog", 0.8, Box(y, x, height, width))
        left, top, wide, high = only(turned.update([found], now_s)).box_px
        assert (top, left, high, wide) == pytest.approx(box_px)


@pytest.mark.parametrize(("interval_s", "alpha"), [(0.05, 0.6), (0.1, 0.6), (0.2, 0.84)])
def test_two_detections_give_the_speed_and_further_ones_correct_it(interval_s: float, alpha: float):
    tracker = Tracker(CONFIG)
    seen_s = iter(moments(4, interval_s))
    tracker.update([person(100)], next(seen_s))
    x = only(tracker.update([person(110)], next(seen_s))).box_px.x
    assert x == pytest.approx(100 + 10 * alpha)
    tracker.update([person(x + 14)], next(seen_s))
    beta = alpha**2 / (2 - alpha)
    predicted = only(tracker.predict(next(seen_s))).box_px.x
    assert predicted == pytest.approx(x + 10 + 4 * alpha + 10 + 4 * beta)


@pytest.mark.parametrize("is_held", [True, False])
def test_box_unseen_for_long_jumps_to_where_it_is_found_again(*, is_held: bool):
    tracker = confirmed_tracker()
    if is_held:
        tracker.hold(1.4)
    else:
        tracker.update([], 0.1)
    assert only(tracker.update([person(108)], 1.5)).box_px.x == pytest.approx(108, abs=0.01)


def test_box_stays_in_the_frame_when_the_object_walks_out_of_it():
    tracker, width = Tracker(CONFIG), 640
    for now_s in moments(40):
        left = min(width - 15, 500 + 60 * now_s)
        found = Detection("person", 0.8, Box(left, 380, min(40, width - left), 100))
        box_px = only(tracker.update([found], now_s)).box_px
        assert box_px.x + box_px.width <= width + 1e-6
        assert box_px.y + box_px.height <= 480 + 1e-6


def test_prediction_moves_on_and_stops_after_a_second():
    tracker = Tracker(CONFIG)
    for now_s in moments(20):
        x = only(tracker.update([person(100 + 100 * now_s)], now_s)).box_px.x
    ahead = only(tracker.predict(now_s + 0.5))
    assert ahead.state is TrackState.CONFIRMED
    assert ahead.box_px.x == pytest.approx(x + 50, abs=3)
    for later_s in (30, 31):
        x_then = only(tracker.predict(now_s + later_s)).box_px.x
        assert x_then == pytest.approx(x + 100, abs=5)


def test_object_held_in_place_does_not_move_on_afterwards():
    tracker = Tracker(CONFIG)
    for now_s in moments(20):
        x = 100 + 100 * now_s
        box_px = only(tracker.update([person(x, y=x)], now_s)).box_px
    assert only(tracker.hold(2.0)).box_px == box_px
    assert only(tracker.predict(2.5)).box_px == box_px


def test_jitter_between_frames_in_quick_succession_is_no_speed():
    tracker = Tracker(CONFIG)
    for index, now_s in enumerate(moments(200, interval_s=0.005)):
        tracker.update([person(100 + index % 2)], now_s)
    assert only(tracker.predict(now_s + 1)).box_px.x == pytest.approx(100, abs=15)


def test_predicted_frames_alone_never_end_a_track():
    tracker = confirmed_tracker()
    for now_s in moments(100, start_s=0.1):
        assert only(tracker.predict(now_s)).state is TrackState.CONFIRMED
    young = Tracker(CONFIG)
    young.update([person(100)], 0.0)
    assert only(young.predict(10.0)).state is TrackState.TENTATIVE


def test_file_that_begins_anew_makes_no_object_younger():
    tracker = confirmed_tracker()
    states = [only(tracker.update([], now_s)).state for now_s in (0.1, -5.0, -4.0, -2.9)]
    assert states == ["lost", "lost", "lost", "ended"]


def test_hold_keeps_a_stationary_object_in_place():
    tracker = confirmed_tracker()
    for now_s in moments(600, start_s=0.1):
        track = only(tracker.hold(now_s))
    assert (track.state, track.last_seen_s) == (TrackState.CONFIRMED, 0.0)
    assert track.box_px.x == pytest.approx(100, abs=1)
    assert only(tracker.update([], 60.2)).state is TrackState.LOST  # nobody had looked
    assert only(tracker.update([person(100)], 60.3)).track_id == 1


def test_ended_box_is_where_the_object_was_last_seen():
    tracker = Tracker(CONFIG)
    for now_s in moments(20):
        x = only(tracker.update([person(100 + 100 * now_s)], now_s)).box_px.x
    for now_s in moments(30, start_s=2.0):
        tracks = tracker.update([], now_s)
        if tracks and tracks[0].state is TrackState.ENDED:
            break
    assert only(tracks).box_px.x == pytest.approx(x, abs=1)


boxes = st.builds(
    Box, *[st.floats(0, 600) for _ in range(2)], *[st.floats(0, 300) for _ in range(2)]
)
detections = st.builds(Detection, st.sampled_from("abc"), st.floats(0.01, 1), boxes)
steps = st.tuples(st.sampled_from(["update", "predict", "hold"]), st.floats(0, 5))


@settings(max_examples=60)
@given(st.lists(st.tuples(steps, st.lists(detections, max_size=6)), max_size=12))
def test_any_sequence_keeps_ids_unique_and_ends_each_track_once(script):
    tracker, now_s, ended = Tracker(CONFIG), 0.0, set()
    for (step, elapsed_s), found in script:
        now_s += elapsed_s
        if step == "update":
            tracks = tracker.update(found, now_s, lambda _: 0.5)
        else:
            tracks = getattr(tracker, step)(now_s)
        ids = [track.track_id for track in tracks]
        assert len(ids) == len(set(ids))
        assert not ended & set(ids)
        ended |= {track.track_id for track in tracks if track.state is TrackState.ENDED}
        assert all(track.last_seen_s <= now_s for track in tracks)


def _jitter(values: list[float]) -> float:
    return sum(abs(a - b) for a, b in itertools.pairwise(values))
