"""The latency budget: results in time, under load and after it; skips have a cause."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.budget import PROBE_S, Governor, StageTimes, nearest_rank, timed
from edge.values import SkipCause
from fakes import FakeClock


@dataclass
class Run:
    """Frames driven through a governor on a fake clock, as the pipeline does it.

    faster_ms: cost of a faster detector, 0: there is none.
    color_ms, crops: cost and number of color crops due in every frame.
    """

    detector_ms: float
    faster_ms: float = 0.0
    color_ms: float = 5.0
    crops: int = 2
    frame_ms: float = 100.0
    interval_s: float = 0.1
    clock: FakeClock = field(default_factory=FakeClock)
    skipped: Counter = field(default_factory=Counter)
    detected: int = 0
    detected_faster: int = 0
    colored: int = 0
    late: int = 0

    def __post_init__(self) -> None:
        self.governor = Governor(self.frame_ms, self.clock)
        self._chance = random.Random(1)

    def frames(self, count: int, *, age_ms: float = 1.0) -> None:
        for _ in range(count):
            self._frame(age_ms)

    def _frame(self, age_ms: float) -> None:
        captured_s = self.clock.now_s
        self.clock.advance(age_ms / 1000)
        costs = {"detector": self.detector_ms}
        if self.faster_ms:
            costs["faster_detector"] = self.faster_ms
        chosen = self.governor.choose_detector(captured_s, [*costs], "front")
        if isinstance(chosen, SkipCause):
            self.skipped[chosen] += 1
        else:
            self.detected += 1
            self.detected_faster += chosen != "detector"
            self._work(chosen, costs[chosen])
        self._work("tracker", 1.0)
        for _ in range(0 if isinstance(chosen, SkipCause) else self.crops):
            if self.governor.allows_color(captured_s, "front"):
                self.colored += 1
                self._work("color", self.color_ms)
        self._work("events", 0.5)
        self.late += self.governor.is_late(captured_s)
        self.clock.now_s = max(self.clock.now_s, captured_s + self.interval_s)

    def _work(self, stage: str, ms: float) -> None:
        took_ms = ms * self._chance.uniform(0.9, 1.1)
        self.clock.advance(took_ms / 1000)
        self.governor.record(stage, took_ms)


def test_work_within_budget_runs_on_every_frame():
    run = Run(detector_ms=50)
    run.frames(200)
    assert (run.detected, run.colored, run.late) == (200, 400, 0)


def test_excess_crops_are_shed_and_the_budget_is_kept():
    run = Run(detector_ms=60, color_ms=9, crops=10)
    run.frames(300)
    assert run.detected == 300
    assert 300 < run.colored < 3000
    assert run.late <= 3


def test_detector_slower_than_the_budget_only_probes():
    run = Run(detector_ms=150)
    run.frames(300)  # 30 s
    assert run.detected <= 1 + 30 / PROBE_S + 1
    assert run.late <= run.detected
    assert run.skipped[SkipCause.BUDGET] == 300 - run.detected


def test_faster_detector_runs_where_the_better_one_does_not_fit():
    run = Run(detector_ms=150, faster_ms=60)
    run.frames(300)
    assert (run.detected, run.skipped) == (300, {})
    assert run.detected_faster == 299  # the better one ran once, to be known
    assert run.late == 1


def test_better_detector_is_back_when_the_load_has_gone():
    run = Run(detector_ms=60, faster_ms=20)
    run.frames(100)
    assert run.detected_faster == 0
    run.detector_ms, run.faster_ms = 180, 60
    run.frames(100)  # 10 s of load
    assert run.detected == 200
    assert run.late <= 10 + 10 / PROBE_S
    run.detector_ms, run.faster_ms = 60, 20
    run.frames(30)  # within one probe
    before = run.detected_faster
    run.frames(100)
    assert run.detected_faster == before


def test_faster_detector_that_does_not_fit_either_only_probes():
    run = Run(detector_ms=300, faster_ms=150)
    run.frames(300)  # 30 s
    assert run.detected <= 2 + 30 / PROBE_S
    assert run.skipped[SkipCause.BUDGET] == 300 - run.detected


def test_intermittent_load_makes_few_frames_late_and_work_recovers():
    run = Run(detector_ms=50)
    run.frames(100)
    run.detector_ms = 150
    run.frames(100)  # 10 s of load
    assert run.late <= 10 + 10 / PROBE_S
    run.detector_ms = 50
    run.frames(30)  # within one probe
    before = run.detected
    run.frames(100)
    assert run.detected - before == 100


def test_color_recovers_after_slow_crops():
    run = Run(detector_ms=50, color_ms=5)
    run.frames(2)
    run.color_ms = 60
    run.frames(10)
    run.color_ms = 5
    run.frames(30)
    before = run.colored
    run.frames(100)
    assert run.colored - before == 200


def test_color_does_not_probe_where_even_its_fastest_run_would_be_late():
    run = Run(detector_ms=50, color_ms=30, crops=1)
    run.frames(20)
    run.detector_ms = 80
    run.frames(70)  # until the slow times fill the window
    before, late = run.colored, run.late
    run.frames(200)
    assert run.colored == before
    assert run.late == late


def test_a_frame_that_is_too_old_is_stale():
    run = Run(detector_ms=10)
    run.frames(5, age_ms=101)
    assert run.skipped == {SkipCause.STALE: 5}


def test_a_frame_that_would_become_too_old_is_skipped_for_budget():
    run = Run(detector_ms=50)
    run.frames(20)
    run.frames(1, age_ms=60)
    assert run.skipped == {SkipCause.BUDGET: 1}
    run.frames(1)
    assert run.detected == 21


def test_stages_after_the_detector_count_toward_the_budget():
    governor = Governor(100, FakeClock())
    governor.record("detector", 60)
    assert governor.choose_detector(0.0, ["detector"], "front") == "detector"
    assert governor.allows_color(0.0, "front")
    for stage in ("tracker", "events", "publish"):
        governor.record(stage, 15)
    assert governor.choose_detector(0.0, ["detector"], "front") is SkipCause.BUDGET
    governor.record("color", 60)
    assert not governor.allows_color(0.0, "front")


@pytest.mark.parametrize("stage", ["tracker", "events", "publish"])
def test_one_slow_time_after_the_detector_keeps_no_frame_from_it(stage: str):
    governor = Governor(100, FakeClock())
    governor.record("detector", 60)
    for ms, chosen in ((1, "detector"), (90, "detector"), (90, SkipCause.BUDGET)):
        governor.record(stage, ms)
        assert governor.choose_detector(0.0, ["detector"], "front") == chosen


def test_skip_on_a_hot_board_is_counted_as_thermal():
    governor = Governor(100, FakeClock())
    governor.record("detector", 160)
    governor.is_hot = True
    assert governor.choose_detector(0.0, ["detector"], "front") is SkipCause.THERMAL
    governor.is_hot = False
    assert governor.choose_detector(0.0, ["detector"], "front") is SkipCause.BUDGET


@pytest.mark.parametrize("stage", ["detector", "color"])
def test_stage_over_budget_runs_once_per_probe_interval(stage: str):
    clock = FakeClock()
    governor = Governor(100, clock)

    def runs(now_s: float) -> bool:
        clock.now_s = now_s
        if stage == "color":
            return governor.allows_color(now_s, "front")
        return governor.choose_detector(now_s, ["detector"], "front") == "detector"

    for ms in (100, 150):
        governor.record(stage, ms)
    assert [runs(now_s) for now_s in (10.0, 11.9, 12.0)] == [False, False, True]
    governor.record(stage, 150)
    assert [runs(now_s) for now_s in (12.1, 13.9, 14.0)] == [False, False, True]
    governor.record(stage, 100)  # fits to the millisecond: nothing waits any longer
    assert runs(14.5)
    governor.record(stage, 101)
    assert [runs(now_s) for now_s in (15.0, 16.9, 17.0)] == [False, False, True]


def test_stages_without_measurements_are_allowed():
    clock = FakeClock()
    governor = Governor(100, clock)
    assert governor.choose_detector(0.0, ["detector"], "front") == "detector"
    assert governor.allows_color(0.0, "front")
    clock.advance(0.1)
    assert governor.choose_detector(0.0, ["detector"], "front") is SkipCause.STALE
    assert not governor.is_late(0.0)
    clock.advance(0.001)
    assert governor.is_late(0.0)


@pytest.mark.parametrize("slow_share", [0.02, 0.1])
def test_rare_slow_runs_are_left_out_of_the_estimate_and_frequent_ones_count(slow_share: float):
    run = Run(detector_ms=50)
    for number in range(500):
        run.detector_ms = 150 if number % round(1 / slow_share) == 0 else 50
        run.frames(1)
    if slow_share < 0.05:
        assert run.skipped[SkipCause.BUDGET] < 0.2 * 500
    else:
        assert run.late < slow_share * 500


def test_quantiles_are_nearest_rank_over_the_window():
    times = StageTimes(window=10)
    for ms in range(100, 0, -1):
        times.add("detector", float(ms))
    assert times.quantiles()["detector"]["p50"] == 5.0
    assert times.cost_ms("detector") == 10.0
    assert times.quantiles() == {"detector": {"p50": 5.0, "p95": 10.0, "p99": 10.0}}
    assert times.cost_ms("color") == times.fastest_ms("color") == 0.0
    times.restart("detector")
    assert times.cost_ms("detector") == 0.0
    assert times.fastest_ms("detector") == 1.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_nearest_rank_covers_the_requested_share(values: list[float], quantile: float):
    ordered = sorted(values)
    found = nearest_rank(ordered, quantile)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= quantile * len(ordered) - 1e-9
    assert sum(value < found for value in ordered) < quantile * len(ordered) + 1e-9


def test_timed_adds_up_even_when_the_block_fails():
    clock = FakeClock()
    stages: dict[str, float] = {}

    @timed(clock, "color", stages)
    def fail() -> None:
        clock.advance(0.25)
        raise ValueError("broken crop")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken crop"):
            fail()
    assert stages == {"color": 500.0}
