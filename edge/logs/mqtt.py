"""Publishes a board's log on the topic `…/log`, bounded in records and bytes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from edge.allowance import Allowance
from edge.logs.facts import facts_of

BURST = 20  # messages at once
PER_SECOND = 0.5  # in the long run
MAX_BYTES = 8192  # of a payload; a larger one has its message cut and loses its traceback
KEPT = ("time", "level", "logger", "event", "suppressed")
# Publishing the connection's own records would cause further records.
SILENT = "edge.publisher"


class MqttLog(logging.Handler):
    """Publishes records as JSON; records beyond the rate are counted in the next one published.

    Until `send_to` says where, they wait here: what happens to a board before it has a connection
    matters most.
    """

    def __init__(self, level: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.choose(level)
        self.lost = 0
        self._publish: Callable[[bytes], None] | None = None
        self._early: deque[bytes] = deque(maxlen=BURST)
        self._allowance = Allowance(BURST, PER_SECOND, clock)
        self._busy = threading.local()
        self._suppressed = 0

    def choose(self, level: str | None) -> None:
        """Publish records of this level and above; None publishes none."""
        self.setLevel(level.upper() if level else logging.CRITICAL + 1)

    def send_to(self, publish: Callable[[bytes], None]) -> None:
        """Publish what waits, and every record from now on.

        publish: takes a payload and never waits; an exception from it only loses the record.
        """
        self.acquire()
        try:
            self._publish = publish
            while self._early:
                self._send(self._early.popleft())
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record, unless publishing itself caused it or the rate is exceeded."""
        is_inside = getattr(self._busy, "value", False)
        if is_inside or record.name.startswith(SILENT):
            return
        if not self._allowance.take():
            self._suppressed += 1
            return
        try:
            facts = facts_of(record)
            if self._suppressed:
                facts["suppressed"], self._suppressed = self._suppressed, 0
            payload = _bounded(facts)
        except Exception:  # noqa: BLE001 - logging never ends the daemon
            self.lost += 1
        else:
            self._send(payload)

    def _send(self, payload: bytes) -> None:
        if self._publish is None:
            self._early.append(payload)
            return
        self._busy.value = True
        try:
            self._publish(payload)
        except Exception:  # noqa: BLE001 - logging never ends the daemon
            self.lost += 1
        finally:
            self._busy.value = False


def _bounded(facts: dict[str, object]) -> bytes:
    """Return facts as JSON of at most MAX_BYTES; larger ones keep the start of the message."""
    payload = msgspec.json.encode(facts)
    if len(payload) <= MAX_BYTES:
        return payload
    kept = {key: facts[key] for key in KEPT if key in facts}
    # JSON writes a character in at most six bytes.
    return msgspec.json.encode({**kept, "message": str(facts["message"])[: MAX_BYTES // 8]})
