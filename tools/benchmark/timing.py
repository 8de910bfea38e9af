"""Times several networks' invokes in turns, so that other load affects all of them equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from tools.benchmark.quantiles import quantiles

WARM_UP = 5

Key = TypeVar("Key", bound=Hashable)


def measure(invokes: Mapping[Key, Callable[[], object]], runs: int) -> dict[Key, dict[str, float]]:
    """Return p50, p95, p99 in milliseconds by key.

    invokes: by key, a function that runs a network whose input is filled. runs: timed calls each.
    """
    for invoke in invokes.values():
        for _ in range(WARM_UP):
            invoke()
    times_ms: dict[Key, list[float]] = {key: [] for key in invokes}
    for _ in range(runs):
        for key, invoke in invokes.items():
            started_s = time.perf_counter()
            invoke()
            times_ms[key].append(1000 * (time.perf_counter() - started_s))
    return {key: quantiles(own) for key, own in times_ms.items()}


def median_ms(invoke: Callable[[], object], runs: int) -> float:
    """Return the median time of a network's invoke. runs: timed calls."""
    return measure({"": invoke}, runs)[""]["p50"]


def relative(times: Mapping[str, dict[str, float]], reference: str) -> dict[str, float]:
    """Return each p50 divided by the reference's."""
    base = times[reference]["p50"]
    return {name: round(own["p50"] / base, 3) for name, own in times.items()}
