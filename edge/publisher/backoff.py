"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

# A connection that held this long makes the next failure a first one.
STABLE_S = 10.0


class Backoff:
    """Doubling delays with jitter, so that a fleet does not return all at once.

    min_s, max_s: the delay of attempt n is drawn from half of to the whole of min_s * 2^n, at most
        max_s.
    """

    def __init__(self, min_s: float, max_s: float) -> None:
        self._min_s = min(min_s, max_s)
        self._max_s = max_s
        self._failures = 0

    def failed(self, held_s: float = 0.0) -> float:
        """Return the delay in seconds after a failure; held_s: how long the connection held."""
        if held_s >= STABLE_S:
            self._failures = 0
        delay_s = min(self._max_s, self._min_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return random.uniform(delay_s / 2, delay_s)  # noqa: S311 - no secret

    def refused(self) -> float:
        """Return the delay after a refused login: asking again soon does not help."""
        self._failures += 1
        return random.uniform(self._max_s / 2, self._max_s)  # noqa: S311 - no secret
