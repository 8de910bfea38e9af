"""Jittered exponential back-off between attempts to connect to a camera or broker.

Source: "Exponential backoff and jitter" (AWS Architecture Blog, 2015), equal jitter.
"""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `min_s` to `max_s`, each multiplied by a random 0.5 to 1.

    So the boards of a fleet do not all reconnect in the same second.
    """

    def __init__(self, min_s: float, max_s: float) -> None:
        self._min_s = min(min_s, max_s)
        self._max_s = max_s
        self._next_s = self._min_s

    def next_s(self) -> float:
        """Return how long to wait now, after a failure."""
        wait_s = _jittered(self._next_s)
        self._next_s = min(self._max_s, 2 * self._next_s)
        return wait_s

    def longest_s(self) -> float:
        """Return the longest wait, after a failure that an early retry cannot fix."""
        self._next_s = min(self._max_s, 2 * self._next_s)
        return _jittered(self._max_s)

    def reset_after(self, lived_s: float, stable_s: float | None = None) -> None:
        """Restart from `min_s` when the last connection lasted for at least `stable_s`.

        lived_s: how long it lasted. stable_s: None means as long as the next wait would be.
        """
        if lived_s >= (self._next_s if stable_s is None else stable_s):
            self._next_s = self._min_s


def _jittered(upper_s: float) -> float:
    return random.uniform(upper_s / 2, upper_s)  # noqa: S311 - spreads load, hides nothing
