"""Messages other than events that wait for the network thread.

A retained QoS 1 message is a state: the newest of each topic is kept and sent on every connection,
until another message is retained there. All other messages are transient: when too many wait, the
oldest are dropped and counted. So are all without a connection, except those that may wait for it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edge.messages import Message

MAX_MESSAGES = 256
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send.

    correlation_data: of the request, in a response by MQTT 5. waits: for a connection.
    """

    message: Message
    correlation_data: bytes | None = None
    waits: bool = False


class Outbox:
    """A bounded queue of transient messages, and the newest state of each retained topic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._queue: deque[Outgoing] = deque()
        self._queue_bytes = 0
        self._retained: dict[str, Message] = {}
        self._unsent: dict[str, Message] = {}
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Return how many transient messages were not sent."""
        with self._lock:
            return self._dropped

    def put(self, outgoing: Outgoing) -> None:
        """Queue a message; never waits. When full, the oldest transient messages are dropped."""
        message = outgoing.message
        with self._lock:
            if message.retain and message.qos > 0:
                self._retained[message.topic] = self._unsent[message.topic] = message
                return
            if message.retain:
                self._retained.pop(message.topic, None)
                self._unsent.pop(message.topic, None)
            if not self._is_open and not outgoing.waits:
                self._dropped += 1
                return
            self._queue.append(outgoing)
            self._queue_bytes += len(message.payload)
            while len(self._queue) > MAX_MESSAGES or self._queue_bytes > MAX_BYTES:
                self._queue_bytes -= len(self._queue.popleft().message.payload)
                self._dropped += 1

    def take(self) -> Outgoing | None:
        """Return the next message to send, states first; None when there is none."""
        with self._lock:
            if self._unsent:
                return Outgoing(self._unsent.pop(next(iter(self._unsent))))
            if not self._queue:
                return None
            outgoing = self._queue.popleft()
            self._queue_bytes -= len(outgoing.message.payload)
            return outgoing

    def open(self) -> None:
        """Accept all transient messages from now on, and send all states again."""
        with self._lock:
            self._is_open = True
            self._unsent = dict(self._retained)

    def close(self) -> None:
        """Drop all messages except states and those that may wait."""
        with self._lock:
            self._is_open = False
            kept = [outgoing for outgoing in self._queue if outgoing.waits]
            self._dropped += len(self._queue) - len(kept)
            self._queue = deque(kept)
            self._queue_bytes = sum(len(outgoing.message.payload) for outgoing in kept)

    def send_again(self, prefix: str) -> None:
        """Send all states under a topic prefix again."""
        with self._lock:
            states = {t: m for t, m in self._retained.items() if t.startswith(f"{prefix}/")}
            self._unsent.update(states)
