"""One frame in, one result out: real tiny models, a real motion gate, a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.config import (
    BudgetConfig,
    CameraConfig,
    ColorConfig,
    Config,
    DetectorConfig,
    EventsConfig,
    LabelConfig,
    MotionConfig,
    TrackerConfig,
)
from edge.detector import Detector
from edge.errors import ConfigError
from edge.pipeline import Models, Thresholds, check_labels, crop
from edge.values import Box, Detection, EventKind, SkipCause, TrackState
from watching import BLUE, PINK, RED, Watch, config_of, empty, scene

UPPER_HALF = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))
LOWER_HALF = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))


def test_object_makes_new_update_and_end_events(watch: Callable[..., Watch]):
    seen = watch()
    seen.show_often(empty(), 3)
    seen.show_often(scene(color=RED), 25)
    seen.show_often(scene(color=PINK), 75)
    seen.show_often(empty(), 40)
    assert seen.kinds() == [EventKind.NEW, EventKind.UPDATE, EventKind.END]
    assert {event.track.track_id for event in seen.events} == {1}
    assert {event.track.label for event in seen.events} == {"person"}
    assert [event.colors[0].name for event in seen.events] == ["red", "pink", "pink"]
    end = seen.events[-1].track
    assert end.last_seen_s - end.first_seen_s == pytest.approx(9.9)


def test_detections_tracks_and_stage_times_are_in_the_result(watch: Callable[..., Watch]):
    seen = watch()
    result = seen.show_often(scene(), 5)[-1]
    (found,) = result.detections
    assert (found.label, found.box_px) == ("person", Box(64, 64, 64, 64))
    (track,) = result.tracks
    assert track.state is TrackState.CONFIRMED
    assert result.skipped is None
    assert {"detector", "motion", "tracker", "events"} <= result.stage_ms.keys()


def test_without_motion_the_detector_is_skipped_and_objects_stay(watch: Callable[..., Watch]):
    seen = watch(motion=MotionConfig(threshold=50, hold_s=0.5, refresh_s=5.0))
    seen.show_often(empty(), 3)
    results = seen.show_often(scene(), 200)
    causes = [result.skipped for result in results]
    assert causes[:3] == [None] * 3
    resting = causes.index(SkipCause.MOTION)  # once the object belongs to the background
    assert resting < 100
    # From then on the detector runs every refresh_s.
    assert causes[resting:].count(None) == (200 - resting) // 50
    assert seen.kinds().count(EventKind.END) == 0
    assert results[-1].tracks[0].state is TrackState.CONFIRMED


def test_camera_may_have_its_own_motion_gate(watch: Callable[..., Watch]):
    off, on = MotionConfig(enabled=False), MotionConfig()
    for camera, others, is_gated in ((off, on, False), (on, off, True), (None, on, True)):
        seen = watch({"motion": camera}, motion=others)
        causes = [result.skipped for result in seen.show_often(empty(), 30)]
        assert (SkipCause.MOTION in causes) is is_gated


def test_resting_object_that_was_missed_is_looked_for_until_it_is_found_or_has_left(
    watch: Callable[..., Watch],
):
    seen = watch(motion=MotionConfig(refresh_s=5.0), tracker=TrackerConfig(max_lost_s=1.0))
    car = (Detection("car", 0.9, Box(50, 50, 80, 60)),)
    seen.detector.sees = car
    seen.show_often(empty(), 40)
    seen.detector.sees = ()
    while seen.show(empty()).skipped is SkipCause.MOTION:
        pass
    seen.detector.sees = car
    found, rested = seen.show_often(empty(), 2)
    assert (found.skipped, rested.skipped) == (None, SkipCause.MOTION)
    assert seen.kinds() == [EventKind.NEW]
    seen.detector.sees = ()
    assert [one.skipped for one in seen.show_often(empty(), 100)].count(
        None
    ) == 11  # until it has ended
    assert seen.kinds() == [EventKind.NEW, EventKind.END]


def test_stationary_object_makes_a_new_event_right_after_finish(watch: Callable[..., Watch]):
    seen = watch(motion=MotionConfig(threshold=50, hold_s=0.5, refresh_s=60.0))
    seen.show_often(empty(), 3)
    last = seen.show_often(scene(), 100)[-1]
    assert last.skipped is SkipCause.MOTION
    before = seen.kinds().count(EventKind.NEW)
    seen.pipeline.finish(last.frame)
    seen.show_often(scene(), 20, is_paused=True)
    seen.show_often(scene(), 5)
    assert seen.kinds().count(EventKind.NEW) == before + 1


def test_paused_frames_are_counted_and_nothing_is_detected(watch: Callable[..., Watch]):
    seen = watch()
    results = seen.show_often(scene(), 5, is_paused=True)
    assert {result.skipped for result in results} == {SkipCause.PAUSED}
    assert seen.detector.runs == 0
    assert seen.show(scene()).skipped is None


def test_objects_are_frozen_without_motion_and_while_paused_and_predicted_over_a_skipped_frame(
    watch: Callable[..., Watch],
):
    def moved_by(cause: SkipCause, motion: MotionConfig, **options: Any) -> float:
        """Return how far a moving object's box goes on in a frame without detection."""
        seen = watch(budget=BudgetConfig(frame_ms=100), motion=motion)
        for x in range(0, 100, 10):
            seen.detector.sees = (Detection("car", 0.9, Box(x, 50, 80, 60)),)
            before = seen.show(empty()).tracks
        after = seen.show(empty(), **options)
        assert after.skipped is cause
        return after.tracks[0].box_px.x - before[0].box_px.x

    off = MotionConfig(enabled=False)
    assert moved_by(SkipCause.MOTION, MotionConfig(hold_s=0.95)) == 0
    assert moved_by(SkipCause.PAUSED, off, is_paused=True) == 0
    assert 5 < moved_by(SkipCause.STALE, off, age_ms=150) < 15


def test_objects_inside_a_mask_are_ignored(watch: Callable[..., Watch]):
    seen = watch({"masks": (LOWER_HALF,)})
    assert seen.show(scene(y=128)).detections == ()
    assert seen.show(scene(y=192)).detections == ()  # its foot is the frame's lower edge
    assert len(seen.show(scene(y=0)).detections) == 1


def test_motion_inside_a_mask_does_not_start_the_detector(watch: Callable[..., Watch]):
    seen = watch({"masks": (LOWER_HALF,)}, motion=MotionConfig(threshold=50, hold_s=0.5))
    assert seen.show_often(empty(), 20)[-1].skipped is SkipCause.MOTION
    assert seen.show(scene(y=192)).skipped is SkipCause.MOTION
    assert seen.show(scene(y=0)).skipped is None


def test_events_name_the_zone(watch: Callable[..., Watch]):
    seen = watch({"zones": {"street": LOWER_HALF, "sky": UPPER_HALF}})
    seen.show_often(scene(y=192), 5)
    assert [event.zones for event in seen.events] == [("street",)]


def test_reload_keeps_objects_their_colors_and_reports_zones_that_have_changed(
    watch: Callable[..., Watch],
):
    seen = watch({"zones": {"street": LOWER_HALF}}, events=EventsConfig(zone_hold_s=0.2))
    seen.show_often(scene(y=192), 5)
    looks = seen.color.runs
    seen.reload(config_of({"zones": {"sky": UPPER_HALF, "road": LOWER_HALF}}))
    seen.show_often(scene(y=192), 15)
    assert seen.color.runs == looks  # not yet due again
    seen.show_often(scene(y=192), 30)
    assert [seen.events[place].zones for place in (0, -1)] == [("street",), ("road",)]
    assert {event.track.track_id for event in seen.events} == {1}
    assert {*seen.kinds()[1:]} == {EventKind.UPDATE}
    assert {event.colors[0].name for event in seen.events} == {"red"}
    long = EventsConfig(zone_hold_s=60.0, update_interval_s=0.1)
    seen.reload(config_of({"zones": {"lane": LOWER_HALF}}, events=long))
    seen.show_often(scene(y=192), 30)
    assert seen.events[-1].zones == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"tracker": TrackerConfig(max_lost_s=0.3)},
        {"color": ColorConfig(refresh_s=0.1)},
        {"color": ColorConfig(enabled=False)},
    ],
)
def test_reload_changes_how_kept_objects_are_followed(
    watch: Callable[..., Watch], changed: dict[str, Any]
):
    histories = []
    for sections in ({}, changed):
        seen = watch(tracker=TrackerConfig(max_lost_s=2.0), color=ColorConfig(refresh_s=60))
        seen.show_often(scene(), 5)
        before = {"tracker": TrackerConfig(max_lost_s=2.0), "color": ColorConfig(refresh_s=60)}
        seen.reload(config_of(**{**before, **sections}))
        for step in range(20):
            seen.show(scene(64 + step, color=PINK))
        seen.show_often(empty(), 10)
        histories.append([(event.kind, event.colors[:1]) for event in seen.events])
    assert histories[0] != histories[1]


@pytest.mark.parametrize(
    ("label", "is_found"),
    [
        (LabelConfig(), True),
        (LabelConfig(enabled=False), False),
        (LabelConfig(min_height_px=64), True),
        (LabelConfig(min_height_px=65), False),
        (LabelConfig(min_width_px=65), False),
        (LabelConfig(min_score=0.99), False),
        (LabelConfig(min_score=0.3), True),
    ],
)
def test_labels_have_their_own_threshold_and_sizes(
    watch: Callable[..., Watch], label: LabelConfig, is_found: bool
):
    seen = watch(detector=DetectorConfig(labels={"person": label}))
    seen.show_often(scene(), 5)
    assert bool(seen.events) == is_found
    blue = watch(detector=DetectorConfig(labels={"person": label}))
    blue.show_often(scene(color=BLUE), 5)
    assert [event.track.label for event in blue.events] == ["car"]


def test_only_the_classes_named_for_a_camera_count_on_it(watch: Callable[..., Watch]):
    found = {}
    for labels in (None, ("car",), ("car", "person")):
        seen = watch({"labels": labels})
        both = scene()
        both[128:192, 192:256] = BLUE
        result = seen.show_often(both, 5)[-1]
        found[labels] = {detection.label for detection in result.detections}
        assert {event.track.label for event in seen.events} == found[labels]
    assert found == {
        None: {"person", "car"},
        ("car",): {"car"},
        ("car", "person"): {"person", "car"},
    }


def test_weak_detection_continues_an_object_but_starts_none(watch: Callable[..., Watch]):
    faint = scene(color=(0, 0, 160))  # scores between half the threshold and the threshold
    seen = watch(detector=DetectorConfig(min_score=0.8))
    seen.show_often(faint, 10)
    assert seen.events == []
    seen.show_often(scene(), 5)
    results = seen.show_often(faint, 40)
    assert seen.kinds() == [EventKind.NEW]
    assert results[-1].tracks[0].state is TrackState.CONFIRMED
    assert results[-1].detections == ()


def test_changed_thresholds_apply_from_the_next_frame(watch: Callable[..., Watch]):
    seen = watch()
    dim = scene(color=(0, 0, 120))  # scores less than half of the default threshold
    for min_score, bgr, count in ((0.5, scene(), 1), (0.99, scene(), 0), (0.2, dim, 1)):
        changed = Thresholds(min_score, {})
        detector = Detector(seen.interpreter, min_score=changed.lowest())
        seen.pipeline.set_thresholds(changed, Models({"detector": detector}, seen.color))
        assert len(seen.show(bgr).detections) == count


def test_single_frame_objects_make_no_events(watch: Callable[..., Watch]):
    seen = watch(tracker=TrackerConfig(min_hits=3), events=EventsConfig())
    for _ in range(20):
        seen.show(scene())
        seen.show_often(empty(), 8)
    assert seen.events == []


def test_detector_uses_the_lowest_threshold_of_all_labels():
    labels = {"car": LabelConfig(min_score=0.2), "cat": LabelConfig(min_score=0.9)}
    thresholds = Thresholds(0.5, labels)
    assert thresholds.lowest() == pytest.approx(0.1)
    assert [thresholds.of(label) for label in ("car", "cat", "dog")] == [0.2, 0.9, 0.5]


def test_object_is_followed_down_to_half_the_threshold_of_its_class():
    thresholds = Thresholds(0.5, {"cat": LabelConfig(min_score=0.9)})
    for label, score, is_kept in (
        ("cat", 0.45, True), ("cat", 0.44, False), ("dog", 0.25, True), ("dog", 0.24, False),
    ):  # fmt: skip
        assert thresholds.keeps(Detection(label, score, Box(0, 0, 9, 9))) == is_kept


def test_classes_the_model_does_not_have_are_refused():
    config = Config(
        cameras={"front": CameraConfig(source=0)},
        detector=DetectorConfig(labels={"persn": LabelConfig()}),
    )
    with pytest.raises(ConfigError, match=r"detector\.labels\.persn: .* known: person, car"):
        check_labels(config, ("person", "car"))
    config = Config(cameras={"front": CameraConfig(source=0, labels=("person", "cra"))})
    with pytest.raises(ConfigError, match=r"cameras\.front\.labels: cra: .* known: person, car"):
        check_labels(config, ("person", "car"))


def test_crops_are_clipped_views():
    bgr = np.zeros((100, 200, 3), np.uint8)
    inside = crop(bgr, Box(10, 20, 30, 40))
    assert inside is not None
    assert inside.shape == (40, 30, 3)
    assert inside.base is bgr
    assert crop(bgr, Box(-10, -10, 1000, 1000)).shape == bgr.shape
    assert crop(bgr, Box(197, 0, 50, 50)) is None
    assert crop(bgr, Box(0, 97, 50, 50)) is None
    assert crop(bgr, Box(196, 96, 50, 50)).shape == (4, 4, 3)
    assert crop(bgr, Box(500, 500, 50, 50)) is None
    assert crop(bgr, Box(-80, 10, 50, 50)) is None
