"""Times of several networks, taken in turns."""

from __future__ import annotations

import pytest

from tools.benchmark import timing


def test_each_network_has_the_median_of_its_own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    calls: list[str] = []

    def took(name: str, ms: float) -> None:
        nonlocal now_s
        calls.append(name)
        warms_up = calls.count(name) <= timing.WARM_UP
        now_s += 60.0 if warms_up else ms / 1000

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now_s)
    times = timing.measure({"a": lambda: took("a", 2), "b": lambda: took("b", 5)}, runs=4)
    assert times["a"] == {"p50": 2.0, "p95": 2.0, "p99": 2.0}
    assert times["b"]["p50"] == 5.0
    assert calls[2 * timing.WARM_UP :] == ["a", "b"] * 4
    assert timing.relative(times, "b") == {"a": 0.4, "b": 1.0}
