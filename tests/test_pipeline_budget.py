"""What the pipeline does when time is short, and when it looks at colors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.config import BudgetConfig, ColorConfig, DetectorConfig
from edge.pipeline import warm_up
from edge.values import Box, Detection, EventKind, SkipCause
from watching import BLUE, Watch, empty, scene


def test_old_frames_are_stale(watch: Callable[..., Watch]):
    seen = watch(budget=BudgetConfig(frame_ms=100))
    assert seen.show(scene(), age_ms=150).skipped is SkipCause.STALE
    assert seen.show(scene(), age_ms=50).skipped is None


def test_a_detector_over_budget_is_skipped_and_tracks_live_on(watch: Callable[..., Watch]):
    seen = watch(budget=BudgetConfig(frame_ms=100))
    seen.show_often(scene(), 5)
    seen.detector.ms = 150
    results = seen.show_often(scene(), 15)
    assert [result.skipped for result in results][:1] == [None]
    skipped = [result for result in results if result.skipped is SkipCause.BUDGET]
    assert len(skipped) >= 13
    assert all(result.tracks[0].track_id == 1 for result in skipped)
    assert all(not result.detections for result in skipped)
    seen.detector.ms = 20
    assert all(result.skipped is None for result in seen.show_often(scene(), 40)[30:])
    assert seen.kinds().count(EventKind.NEW) == 1
    assert EventKind.END not in seen.kinds()


def test_camera_whose_frames_wait_too_long_for_anothers_is_detected_every_two_seconds(
    watch: Callable[..., Watch],
):
    seen = watch(budget=BudgetConfig(frame_ms=100))
    seen.detector.ms = 60
    skipped = []
    for _ in range(60):  # 0.2 s each: one frame of each camera
        assert seen.show(scene()).skipped is None
        skipped.append(seen.show(scene(), age_ms=60, camera="door").skipped)
    assert skipped[:9] == [SkipCause.BUDGET] * 9
    assert skipped.count(None) == 5


def test_faster_detector_replaces_one_over_budget(watch: Callable[..., Watch]):
    seen = watch(budget=BudgetConfig(frame_ms=100), detector=DetectorConfig(faster_model="faster"))
    seen.show_often(scene(), 5)
    seen.detector.ms, seen.faster.ms = 150, 50
    results = seen.show_often(scene(), 15)
    assert "faster_detector" not in results[0].stage_ms
    for result in results[2:]:
        assert (result.skipped, result.tracks[0].track_id) == (None, 1)
        assert "detector" not in result.stage_ms
        assert result.stage_ms["faster_detector"] == pytest.approx(50, abs=10)
        assert [found.label for found in result.detections] == ["person"]


def test_color_is_shed_before_the_detector(watch: Callable[..., Watch]):
    seen = watch(budget=BudgetConfig(frame_ms=100), color=ColorConfig(refresh_s=0.05))
    seen.detector.ms, seen.color.ms = 60, 20
    seen.show_often(scene(), 10)
    before = seen.color.runs
    seen.color.ms, seen.detector.ms = 20, 90
    results = seen.show_often(scene(), 10)
    assert all(result.skipped is None for result in results)
    assert sum(result.colors_shed for result in results) == 10
    assert seen.color.runs == before
    assert results[-1].tracks


def test_crops_are_budgeted_one_by_one(watch: Callable[..., Watch]):
    seen = watch(budget=BudgetConfig(frame_ms=100), color=ColorConfig(refresh_s=0.05))
    seen.detector.ms, seen.color.ms = 40, 25
    seen.detector.sees = (Detection("car", 0.9, Box(150, 150, 80, 60)),)
    results = seen.show_often(scene(), 10)
    assert seen.color.runs == 16  # two objects, from their third frame on
    assert results[-1].colors_shed == 0
    assert results[-1].stage_ms["color"] == pytest.approx(50)
    seen.detector.ms = 90
    assert seen.show_often(scene(), 3)[-1].colors_shed == 2


def test_object_too_small_for_a_color_does_not_keep_others_from_theirs(
    watch: Callable[..., Watch],
):
    seen = watch()
    seen.detector.sees = (Detection("car", 0.9, Box(200, 200, 3, 3)),)
    seen.show_often(empty(), 5)
    seen.show_often(scene(), 5)
    assert [bool(event.colors) for event in seen.events] == [False, True]


def test_color_is_not_read_where_an_object_is_only_predicted(watch: Callable[..., Watch]):
    seen = watch(budget=BudgetConfig(frame_ms=100), color=ColorConfig(refresh_s=0.05))
    seen.show_often(scene(), 5)
    seen.detector.ms = 150
    seen.show(scene())
    before = seen.color.runs
    assert seen.show(scene()).skipped is SkipCause.BUDGET
    assert seen.color.runs == before


def test_color_is_classified_at_intervals_not_on_every_frame(watch: Callable[..., Watch]):
    seen = watch(color=ColorConfig(refresh_s=1.0))
    seen.show_often(scene(), 50)
    assert 4 <= seen.color.runs <= 6
    assert seen.events[-1].colors[0].name == "red"


def test_color_model_gets_the_class_of_the_object(watch: Callable[..., Watch]):
    seen = watch()
    seen.show_often(scene(color=BLUE), 4)
    assert seen.color.runs
    assert seen.color.label == "car"


def test_color_switched_off_leaves_colors_empty(watch: Callable[..., Watch]):
    seen = watch(color=ColorConfig(enabled=False))
    assert not any(result.colors_shed for result in seen.show_often(scene(), 10))
    assert seen.color.runs == 0
    assert [event.colors for event in seen.events] == [()]


@pytest.mark.parametrize(("ms", "fits"), [(110, False), (90, True)])
def test_warm_up_lets_the_governor_know_every_models_cost(
    watch: Callable[..., Watch], ms: float, fits: bool
):
    seen = watch(budget=BudgetConfig(frame_ms=100), detector=DetectorConfig(faster_model="faster"))
    seen.detector.ms = seen.faster.ms = seen.color.ms = ms
    warm_up(seen.models, seen.governor, seen.clock, empty())
    for stage in ("detector", "faster_detector"):
        chosen = seen.governor.choose_detector(seen.clock.now_s, [stage], "front")
        assert chosen == (stage if fits else SkipCause.BUDGET)
    assert seen.governor.allows_color(seen.clock.now_s, "front") == fits
