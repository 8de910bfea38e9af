"""What `stats` says of work that is left out."""

from __future__ import annotations

import pytest

from edge.capture import CaptureState, CaptureStatus
from edge.health import Condition
from edge.messages import SpoolStats
from edge.service.counters import Counters
from edge.service.stats import StatsMaker
from edge.values import SkipCause


@pytest.mark.parametrize("cause", [SkipCause.BUDGET, SkipCause.THERMAL])
def test_stats_say_why_work_is_left_out_while_it_is(cause: SkipCause) -> None:
    counters, maker = Counters(), StatsMaker("boot", 0.0)
    board = Condition(None, None, None, None, None, is_hot=cause is SkipCause.THERMAL)
    parts = (SpoolStats(waiting=0, lost=0, used_bytes=0, written_bytes=0, failure=""), {}, board)
    camera = ("front", CaptureStatus(CaptureState.LIVE))
    counters.skipped[cause] += 1
    first, second = (maker.make(counters, camera, parts, s, is_paused=False) for s in (1.0, 2.0))
    assert first.skipped[cause] == 1
    assert (first.degraded, second.degraded) == (cause.value, "")
