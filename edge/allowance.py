"""A rate for what may come in bursts, such as log records (a token bucket)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """Allows `burst` at once, and `per_second` in the long run; not thread-safe.

    clock: monotonic seconds.
    """

    def __init__(
        self, burst: int, per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left = float(burst)
        self._refilled_s = clock()

    def take(self) -> bool:
        """Return whether one more is allowed now, and count it."""
        now_s = self._clock()
        gained = (now_s - self._refilled_s) * self._per_second
        self._left, self._refilled_s = min(self._burst, self._left + gained), now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
