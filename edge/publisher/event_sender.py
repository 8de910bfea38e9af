"""Sends the spool's events in order, a bounded number in flight, and deletes delivered ones.

Used by the network thread alone, but any thread may read `counts`, `in_flight` and `latency_ms`.
Each connection begins with the oldest unacknowledged event. An event is historical when it was in
the spool before the connection was made, or waited there for its topic. That holds for every event
that is sent again.
A rejected event holds up its own topic only: after a change of the device's name, events may wait
under a topic that the broker does not permit any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edge.budget import nearest_rank
from edge.messages import LostRange, Message, SpooledEvent, encode, stamp_event
from edge.publisher.connection import Connection, ConnectionEndedError, EndKind

logger = logging.getLogger(__name__)

# How long a topic's events wait after the broker rejected one for missing permission or space.
REJECTED_RETRY_S = 30.0
LOST_CHECK_S = 1.0
# Reconnect to a broker that answers pings but acknowledges nothing.
ACK_TIMEOUT_S = 60.0
_PAGE = 100
NOT_AUTHORIZED, TOO_LARGE = 135, 149
_FIXES = {
    NOT_AUTHORIZED: "allow this user to publish there",
    TOO_LARGE: "raise the broker's limit of a packet",
}
# MQTT 5.0 section 3.4.2.1: sending the same message again would fail in the same way.
_HOPELESS_REASONS = frozenset({144, TOO_LARGE, 153})  # topic name, packet too large, payload format


class EventQueue(Protocol):
    """The part of the spool that the publisher uses."""

    def put(self, topic: str, body: bytes) -> int:
        """Queue an event and return its seq."""

    def pending(self, after_row: int = 0, limit: int = 100) -> list[SpooledEvent]:
        """Return unacknowledged events with larger rows, oldest first."""

    def acknowledge(self, rows: Iterable[int]) -> None:
        """Remove delivered events."""

    def lost(self) -> dict[int, LostRange]:
        """Return the lost ranges not yet acknowledged."""

    def acknowledge_lost(self, loss_id: int) -> None:
        """Remove a lost range."""

    def last_row(self) -> int:
        """Return the row of the newest event."""


@dataclass(slots=True)
class SenderCounts:
    """Counts since the daemon's start; written by the network thread alone.

    sent: publications of events; sent_again: of those, historical ones.
    rejected: events and lost ranges that the broker rejected.
    """

    sent: int = 0
    sent_again: int = 0
    acknowledged: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class _InFlight:
    event: SpooledEvent
    historical: bool
    sent_mono_s: float


@dataclass(frozen=True, slots=True)
class _LossInFlight:
    loss_id: int
    sent_mono_s: float


class EventSender:
    """The stream of events to the broker.

    lost_topic: where lost ranges are published.
    """

    def __init__(self, queue: EventQueue, lost_topic: str, max_in_flight: int) -> None:
        self._queue = queue
        self._lost_topic = lost_topic
        self._max_in_flight = max_in_flight
        self.counts = SenderCounts()
        self._next: deque[SpooledEvent] = deque()
        self._last_row = self._historical_row = 0
        self._in_flight: dict[int, _InFlight | _LossInFlight] = {}  # by message id, oldest first
        self._delivered: list[int] = []
        self._held: set[str] = set()  # topics whose events wait until `_held_until_s`
        self._held_until_s = 0.0
        self._logged: set[str] = set()  # topics whose last rejection was logged
        self._lost_check_s = 0.0
        self._lock = threading.Lock()
        self._latencies_ms: deque[float] = deque(maxlen=256)

    @property
    def in_flight(self) -> int:
        """Return the number of unacknowledged QoS 1 publications."""
        return len(self._in_flight)

    def begin(self) -> None:
        """Start again at the oldest event; call it on every connection."""
        self._next.clear()
        self._in_flight.clear()
        self._last_row = 0
        self._historical_row = self._queue.last_row()
        self._held.clear()
        self._lost_check_s = 0.0

    def feed(self, connection: Connection, room: int) -> bool:
        """Send what fits; return whether anything is left to send or in flight.

        room: QoS 1 publications the broker still accepts.
        Raises ConnectionEndedError when a publication in flight is not acknowledged in time.
        """
        now_s = time.monotonic()
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is not None and now_s - oldest.sent_mono_s > ACK_TIMEOUT_S:
            raise ConnectionEndedError(EndKind.LOST, f"no acknowledgement in {ACK_TIMEOUT_S:.0f} s")
        if self._held and now_s >= self._held_until_s:
            if self._in_flight:
                return True
            self._try_held_again()
        room = min(room, self._max_in_flight) - self.in_flight
        if room > 0 and now_s >= self._lost_check_s:
            self._lost_check_s = now_s + LOST_CHECK_S
            room -= self._send_lost(connection, room)
        while room > 0 and not connection.is_congested:
            event = self._take()
            if event is None:
                break
            room -= self._send(connection, event)
        return self.in_flight > 0 or self._peek() is not None

    def acknowledged(self, message_id: int, reason: int) -> bool:
        """Process an acknowledgement; return whether this sender sent the message."""
        sent = self._in_flight.pop(message_id, None)
        if isinstance(sent, _LossInFlight):
            self._settle_lost(sent.loss_id, reason)
        elif sent is not None and reason >= 128:
            self._reject(sent.event, reason)
        elif sent is not None:
            self._deliver(sent)
        return sent is not None

    def settle(self) -> None:
        """Remove from the spool the events delivered since the last call."""
        if self._delivered:
            delivered, self._delivered = self._delivered, []
            self._queue.acknowledge(delivered)

    def latency_ms(self, quantile: float) -> float:
        """Return a quantile of the time from `put` to acknowledgement over the last 256 events.

        Historical events do not count. 0 without events. Any thread may call.
        """
        with self._lock:
            ordered = sorted(self._latencies_ms)
        return nearest_rank(ordered, quantile) if ordered else 0.0

    def _peek(self) -> SpooledEvent | None:
        while True:
            if not self._next:
                self._next.extend(self._queue.pending(self._last_row, _PAGE))
            if not self._next or self._next[0].topic not in self._held:
                return self._next[0] if self._next else None
            self._last_row = self._next.popleft().row

    def _take(self) -> SpooledEvent | None:
        event = self._peek()
        if event is not None:
            self._next.popleft()
            self._last_row = event.row
        return event

    def _send(self, connection: Connection, event: SpooledEvent) -> int:
        """Publish an event; return the publications in flight: 1, or 0 when it is too large."""
        historical = event.row <= self._historical_row
        payload = stamp_event(
            event.body,
            seq=event.seq,
            boot_id=event.boot_id,
            historical=historical,
            published_s=time.time(),
        )
        message = Message(event.topic, payload, qos=1)
        if not connection.fits(message):
            self._reject(event, TOO_LARGE)
            return 0
        message_id = connection.publish(message)
        self._in_flight[message_id] = _InFlight(event, historical, time.monotonic())
        self.counts.sent += 1
        self.counts.sent_again += historical
        return 1

    def _send_lost(self, connection: Connection, room: int) -> int:
        """Publish lost ranges that are not in flight, at most `room`; return how many."""
        sent = {one.loss_id for one in self._in_flight.values() if isinstance(one, _LossInFlight)}
        waiting = [(key, lost) for key, lost in self._queue.lost().items() if key not in sent]
        for loss_id, lost in waiting[:room]:
            message_id = connection.publish(Message(self._lost_topic, encode(lost), qos=1))
            self._in_flight[message_id] = _LossInFlight(loss_id, time.monotonic())
        return min(len(waiting), room)

    def _settle_lost(self, loss_id: int, reason: int) -> None:
        """Remove a delivered lost range; send a rejected one again later."""
        if reason < 128:
            self._queue.acknowledge_lost(loss_id)
            self._logged.discard(self._lost_topic)
            return
        self.counts.rejected += 1
        self._log_rejected(self._lost_topic, reason)
        self._lost_check_s = time.monotonic() + REJECTED_RETRY_S

    def _deliver(self, sent: _InFlight) -> None:
        event, now_s = sent.event, time.monotonic()
        self._delivered.append(event.row)
        self._logged.discard(event.topic)
        self.counts.acknowledged += 1
        if not sent.historical:
            with self._lock:
                self._latencies_ms.append(1000 * (now_s - event.put_mono_s))

    def _reject(self, event: SpooledEvent, reason: int) -> None:
        """Drop an event that the broker can never take; else let those of its topic wait."""
        self.counts.rejected += 1
        if reason in _HOPELESS_REASONS:
            logger.error(
                "mqtt.event_dropped boot_id=%s seq=%d reason=%d; the broker can never take it",
                event.boot_id,
                event.seq,
                reason,
            )
            self._delivered.append(event.row)
            return
        self._log_rejected(event.topic, reason)
        self._held.add(event.topic)
        self._held_until_s = time.monotonic() + REJECTED_RETRY_S

    def _try_held_again(self) -> None:
        """Go back to the oldest event; nothing is in flight."""
        self.settle()
        historical_row = max(self._last_row, self._historical_row)
        self.begin()
        self._historical_row = historical_row

    def _log_rejected(self, topic: str, reason: int) -> None:
        if topic in self._logged:
            return
        self._logged.add(topic)
        logger.error(
            "mqtt.event_rejected topic=%s reason=%d retry_s=%.0f; %s",
            topic,
            reason,
            REJECTED_RETRY_S,
            fix_of(reason),
        )


def fix_of(reason: int) -> str:
    """Return what to do about a publication that the broker refused with an MQTT 5 reason code."""
    return _FIXES.get(reason, "see the broker's log")
