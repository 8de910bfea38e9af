"""Waits between attempts: they double with jitter, and restart after a good time."""

from __future__ import annotations

from edge.backoff import Backoff


def test_waits_double_to_their_limit_with_jitter() -> None:
    runs = []
    for _ in range(50):
        backoff = Backoff(1, 8)
        runs.append([backoff.next_s() for _ in range(6)])
    for expected_s, samples in zip((1, 2, 4, 8, 8, 8), zip(*runs, strict=True), strict=True):
        assert expected_s / 2 <= min(samples) < max(samples) <= expected_s


def test_waits_restart_after_a_life_as_long_as_the_next_one() -> None:
    backoff = Backoff(1, 8)
    for _ in range(5):
        backoff.next_s()
    backoff.reset_after(7.9)
    assert backoff.next_s() >= 4
    backoff.reset_after(8)
    assert backoff.next_s() <= 1


def test_waits_restart_after_a_life_that_counts_as_stable() -> None:
    backoff = Backoff(1, 1000)
    for _ in range(9):
        backoff.next_s()
    backoff.reset_after(59, 60)
    assert backoff.next_s() > 100
    backoff.reset_after(60, 60)
    assert backoff.next_s() <= 1


def test_longest_wait_is_near_the_limit_at_once_and_lets_the_others_double() -> None:
    backoff = Backoff(1, 60)
    assert all(30 <= backoff.longest_s() <= 60 for _ in range(3))
    assert 4 <= backoff.next_s() <= 8
