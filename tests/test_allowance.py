"""A bounded rate: a burst at once, then as many as the time allows."""

from __future__ import annotations

from edge.allowance import Allowance
from fakes import FakeClock


def test_burst_is_allowed_at_once_and_then_the_rate() -> None:
    clock = FakeClock()
    allowance = Allowance(3, 0.5, clock)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    clock.advance(2)
    assert [allowance.take() for _ in range(2)] == [True, False]
    clock.advance(1000)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
