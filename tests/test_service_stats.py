"""The `stats` message: rates since the last one, totals since the start, causes of skips."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edge.capture import CaptureState, CaptureStatus
from edge.health import Condition
from edge.messages import CameraStats, MqttStats, SpoolStats
from edge.service.counters import LATENCY, Counters
from edge.service.stats import Readings, StatsMaker
from edge.spool import SpoolCounters
from edge.values import Frame, FrameResult, SkipCause

NONE = {cause.value: 0 for cause in SkipCause}


CORES = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("cause", "load", "reason"),
    [
        (SkipCause.BUDGET, None, "budget"),
        (SkipCause.BUDGET, CORES + 1, "budget"),  # the daemon itself may be one of these
        (SkipCause.BUDGET, CORES + 1.5, "load"),
        (SkipCause.THERMAL, CORES + 9, "thermal"),
    ],
)
def test_stats_give_the_reason_while_work_is_skipped(
    cause: SkipCause, load: float | None, reason: str
) -> None:
    counters, maker = Counters(), StatsMaker("boot", 0.0)
    board = Condition(None, None, None, None, load, is_hot=cause is SkipCause.THERMAL)
    readings = Readings(
        capture={"front": CaptureStatus(CaptureState.LIVE)},
        paused=(),
        spool=SpoolCounters(),
        mqtt=MqttStats(state="connecting"),
        board=board,
    )
    counters.cameras["door"].detected += 1
    counters.cameras["front"].skipped[cause] += 1
    first, second = (maker.make(counters, readings, now_s) for now_s in (1.0, 2.0))
    assert first.skipped[cause] == 1
    assert (first.degraded, second.degraded) == (reason, "")


def test_rates_are_since_the_last_stats_and_totals_since_the_start() -> None:
    counters = Counters(detected_faster=3, late=1, colors_shed=2, events=5)
    counters.cameras["front"].detected = 6
    counters.cameras["door"].detected = 1
    maker = StatsMaker("b", 100.0)
    board = Condition(61.5, "ondemand", 1_500_000_000, 107, 0.75)
    spool = SpoolCounters(waiting=1, lost=2, used_bytes=3, written_bytes=4, failure="")
    status = CaptureStatus(
        CaptureState.LIVE, frames=20, dropped=4, bad_frames=3, reconnects=2, hung=1
    )
    counters.cameras["front"].skipped[SkipCause.STALE] += 1
    counters.stages.add(LATENCY, 30.0)
    counters.stages.add("detector", 20.0)
    door = CaptureStatus(CaptureState.LOST, frames=3, dropped=2)
    readings = Readings(
        {"front": status, "door": door}, {"front"}, spool, MqttStats(state="lost"), board
    )
    first = maker.make(counters, readings, 102.0)
    counters.cameras["front"].detected += 30
    second = maker.make(counters, readings, 105.0)
    assert (first.frames_per_s, second.frames_per_s) == (3.5, 10.0)
    assert (first.uptime_s, second.uptime_s) == (2.0, 5.0)
    assert (second.detected, second.late, second.colors_shed, second.events) == (37, 1, 2, 5)
    assert second.detected_faster == 3
    assert {cause: n for cause, n in second.skipped.items() if n} == {"stale": 7}
    assert second.latency_ms["p50"] == 30
    assert {stage: times["p95"] for stage, times in second.stages_ms.items()} == {"detector": 20}
    assert second.cameras == {
        "front": CameraStats(
            state="live", frames=20, frames_per_s=10, detected=36, skipped=NONE | {"stale": 5},
            bad_frames=3, reconnects=2, hung=1, paused=True,
        ),
        "door": CameraStats(
            state="lost", frames=3, detected=1, skipped=NONE | {"stale": 2}, bad_frames=0,
            reconnects=0, hung=0,
        ),
    }  # fmt: skip
    assert second.spool == SpoolStats(waiting=1, lost=2, used_bytes=3, written_bytes=4, failure="")
    assert second.mqtt == MqttStats(state="lost")
    assert (second.temperature_c, second.cpu_governor, second.cpu_hz) == (61.5, "ondemand", 1.5e9)
    assert (second.load_1min, second.rss_bytes) == (0.75, 107)


def test_skipped_frame_is_counted_by_cause_and_has_no_latency() -> None:
    counters = Counters()
    counters.add(result(), 30.0, is_late=False)
    counters.add(result(colors_shed=2), 250.0, is_late=True)
    counters.add(result(stage="faster_detector"), 20.0, is_late=False)
    for cause in (SkipCause.BUDGET, SkipCause.THERMAL, SkipCause.STALE, SkipCause.MOTION):
        counters.add(result(skipped=cause), 900.0, is_late=True)
    assert (counters.detected, counters.late, counters.colors_shed) == (3, 1, 2)
    assert counters.detected_faster == 1
    assert counters.stages.quantiles()[LATENCY]["p99"] == 250
    assert counters.stages.quantiles()["motion"]["p50"] == 0.5
    skips = counters.skips({"front": CaptureStatus(dropped=4)})
    expected = {"budget": 1, "thermal": 1, "stale": 5, "motion": 1, "paused": 0}
    assert skips == expected
    # Three frames, two crops, one better detector; not the unchanged ones.
    assert counters.saved_for_budget() == 6


def result(
    *, skipped: SkipCause | None = None, colors_shed: int = 0, stage: str = "motion"
) -> FrameResult:
    frame = Frame("front", 1, np.zeros((4, 4, 3), np.uint8), 0.0, 0.0, 0.0)
    return FrameResult(frame, skipped, (), (), (), stage_ms={stage: 0.5}, colors_shed=colors_shed)
