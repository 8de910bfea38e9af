"""A latest-wins slot of size one between a producer's and a consumer's thread.

Method: the newest item replaces an untaken one (`put`), so a slow consumer sees fresh data and
never a queue; every replaced item is counted. A producer that must lose nothing waits instead
(`hand_over`). An exception of the producer is raised in the consumer, so no failure vanishes.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """The newest item of a producer, for one consumer; all methods may be called by any thread.

    changed: is notified of every change; slots of one consumer may share it.
    """

    def __init__(self, changed: threading.Condition | None = None) -> None:
        self._changed = changed or threading.Condition()
        self._item: T | None = None
        self._error: Exception | None = None
        self._is_closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Return how many items were replaced before they were taken."""
        with self._changed:
            return self._dropped

    @property
    def is_over(self) -> bool:
        """Return whether the producer has closed or failed and nothing is left to take."""
        with self._changed:
            return self._is_closed and self._item is None

    @property
    def waiting(self) -> T | None:
        """Return the item that is there to be taken."""
        with self._changed:
            return self._item

    @property
    def has_failed(self) -> bool:
        """Return whether `take` raises, now or after the last item."""
        with self._changed:
            return self._error is not None

    def put(self, item: T) -> None:
        """Offer an item at once; an older untaken one is dropped and counted."""
        with self._changed:
            if self._is_closed:
                self._dropped += 1
                return
            if self._item is not None:
                self._dropped += 1
            self._item = item
            self._changed.notify_all()

    def hand_over(self, item: T) -> None:
        """Wait until the slot is empty, then offer the item, so that none is dropped.

        An item for a slot that is closed, or is closed meanwhile, is counted as dropped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._item is None or self._is_closed)
            if self._is_closed:
                self._dropped += 1
                return
            self._item = item
            self._changed.notify_all()

    def take(self, timeout_s: float) -> T | None:
        """Return the newest item; None on timeout, or at once when the producer has closed.

        Raises the producer's exception, after the last item was taken.
        """
        with self._changed:
            self._changed.wait_for(self._is_settled, timeout_s)
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            self._changed.notify_all()
            return item

    def fail(self, error: Exception) -> None:
        """Let the consumer's `take` raise `error`, now and every time after."""
        with self._changed:
            self._error = error
            self.close()

    def close(self) -> None:
        """End the hand-over: waiters wake up, an untaken item stays to be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def leave(self) -> None:
        """End the hand-over from the consumer's side: an untaken item is dropped and counted."""
        with self._changed:
            self._dropped += self._item is not None
            self._item = None
            self.close()

    def _is_settled(self) -> bool:
        return self._item is not None or self._is_closed
