"""What `stats` says of work that is left out."""

from __future__ import annotations

import pytest

from edge.capture import CaptureState, CaptureStatus
from edge.health import Condition
from edge.service.counters import Counters
from edge.service.stats import Readings, StatsMaker
from edge.spool import SpoolCounters
from edge.values import SkipCause


@pytest.mark.parametrize("cause", [SkipCause.BUDGET, SkipCause.THERMAL])
def test_stats_say_why_work_is_left_out_while_it_is(cause: SkipCause) -> None:
    counters, maker = Counters(), StatsMaker("boot", 0.0)
    board = Condition(None, None, None, None, None, is_hot=cause is SkipCause.THERMAL)
    readings = Readings(
        camera="front",
        capture=CaptureStatus(CaptureState.LIVE),
        is_paused=False,
        spool=SpoolCounters(),
        mqtt={},
        board=board,
    )
    counters.skipped[cause] += 1
    first, second = (maker.make(counters, readings, now_s) for now_s in (1.0, 2.0))
    assert first.skipped[cause] == 1
    assert (first.degraded, second.degraded) == (cause.value, "")
