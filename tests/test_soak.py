"""The soak's figures: leaks are found, and outages of the broker are separated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.errors import EXIT_USAGE
from tools.cli import main
from tools.soak import BUDGETS, Sample, figures_of

STEADY = Sample(
    at_s=0, rss_bytes=100_000_000, descriptors=20, threads=8, log_lines=5, events=0,
    written_bytes=0, lost=0, is_away=False,
)  # fmt: skip


def steady(count: int = 120) -> list[Sample]:
    """Ten minutes, one event and 1000 bytes in five seconds."""
    return [
        replace(STEADY, at_s=5.0 * n, events=n, written_bytes=1000 * n) for n in range(1, count + 1)
    ]


def broken(samples: list[Sample]) -> set[str]:
    figures = figures_of(samples) | {"exit_code": 0.0}
    return {name for name, limit in BUDGETS.items() if figures[name] > limit}


def test_steady_run_exceeds_no_limit() -> None:
    assert broken(steady()) == set()
    assert figures_of(steady())["spool_mb_per_day_broker_there"] == pytest.approx(86.4)


@pytest.mark.parametrize(
    ("field", "per_sample", "name"),
    [
        ("rss_bytes", 20_000, "rss_slope_mb_per_hour"),  # 14 MB an hour
        ("descriptors", 1, "descriptors_growth"),
        ("threads", 1, "threads_growth"),
        ("log_lines", 1, "log_lines_per_minute"),
        ("lost", 1, "events_lost"),
    ],
)
def test_growth_is_reported(field: str, per_sample: int, name: str) -> None:
    grown = [
        replace(one, **{field: getattr(one, field) + per_sample * n})
        for n, one in enumerate(steady())
    ]
    assert broken(grown) == {name}


def test_warm_up_is_not_reported_as_a_leak() -> None:
    samples = steady()
    warming = [replace(one, rss_bytes=n * 4_000_000) for n, one in enumerate(samples[:20])]
    assert broken(warming + samples[20:]) == set()


def test_writes_are_measured_separately_with_and_without_the_broker() -> None:
    samples = [replace(one, is_away=40 <= n < 80) for n, one in enumerate(steady())]
    for n in range(41, 80):  # ten times as much while it is away
        samples[n] = replace(
            samples[n], written_bytes=samples[40].written_bytes + 10_000 * (n - 40)
        )
    figures = figures_of(samples)
    assert figures["spool_mb_per_day_broker_there"] == pytest.approx(86.4)
    assert figures["spool_mb_per_day_broker_away"] == pytest.approx(864)


def test_too_short_a_run_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "0.2"]) == EXIT_USAGE  # 1 means that a budget was exceeded
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edge-tools: --minutes 0.2: too short")
