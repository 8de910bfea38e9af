"""Publishes to the broker from a thread of its own; nothing here waits on the network.

Events go through the spool and are sent at QoS 1 until the broker has acknowledged them. Retained
QoS 1 messages are states, sent again on every connection. Log records wait in memory while there
is no connection; all other messages are dropped and counted. Commands arrive through a bounded
queue.

`protocol: auto` begins with MQTT 5. It falls back to 3.1.1 when the broker refuses it, closes the
connection before its answer or does not answer in time. A refused login is a state of its own: it
is logged once and retried slowly, since a wrong password does not fix itself.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import msgspec
from paho.mqtt.enums import MQTTProtocolVersion

from edge.backoff import Backoff
from edge.config import MqttConfig
from edge.errors import ConfigError, PublishError
from edge.messages import Message, MqttStats, Response, Status, Topics, encode, transaction_of
from edge.publisher import options
from edge.publisher.connection import (
    Connection,
    ConnectionEndedError,
    EndKind,
    Handlers,
    Incoming,
    Waker,
)
from edge.publisher.event_sender import TOO_LARGE, EventQueue, EventSender, fix_of
from edge.publisher.inbox import Inbox, IncomingCommand
from edge.publisher.outbox import Outbox, Outgoing

logger = logging.getLogger(__name__)

MAX_LOGGED_TOPICS = 100  # clients choose the topics of responses, so their number has no bound
DISCOVERY_SPREAD_S = 3.0
# After a connection that lasted this long, the back-off begins again.
STABLE_S = 10.0
SHORT_LIVED = "it had just been made: does another board have this device name?"
# Part of the time of `close` that is kept for publishing `offline` after the events.
_GOODBYE_S = 0.5
_JOIN_S = 1.0


class ConnectionState(StrEnum):
    """State of the connection to the broker."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(slots=True)
class _Counts:
    """Counts since the daemon's start; written by the network thread alone.

    turned_away: messages other than events that the broker does not accept.
    """

    connects: int = 0
    refusals: int = 0
    turned_away: int = 0


class Publisher:
    """The connection to the broker; a context manager.

    birth: published on `status` when connected; the will is the same message with `offline`.
    Entering raises ConfigError when a file of the `mqtt` section cannot be used. An unreachable
    broker is a state, not an error.
    """

    def __init__(
        self, config: MqttConfig, topics: Topics, events: EventQueue, birth: Status
    ) -> None:
        self._config = config
        self._topics = topics
        self._queue = events
        self._birth = Message(topics.of("status"), encode(birth), qos=1, retain=True)
        offline = encode(msgspec.structs.replace(birth, status="offline"))
        self._death = Message(topics.of("status"), offline, qos=1, retain=True)
        self._identity = options.Identity(topics.base.replace("/", "-"), self._death)
        self._state = (ConnectionState.CONNECTING, "")
        self._logged_state = self._state
        self._counts = _Counts()
        self._outbox = Outbox()
        self._events = EventSender(events, topics.of("lost"), config.max_in_flight)
        self._inbox = Inbox(topics)
        self._others: dict[int, str] = {}  # topics of messages in flight that are not events
        self._turned_away: set[str] = set()
        self._stop = threading.Event()
        self._close_by_s = self._connected_s = 0.0
        self._discovery_due_s = math.inf

    def __enter__(self) -> Self:
        """Check the files of the config and start the network thread."""
        options.check(self._config)
        self._protocol = options.PROTOCOLS[self._config.protocol][0]
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the publisher."""
        self.close()

    def close(self, timeout_s: float = 3.0) -> None:
        """Send as much as the time allows, publish `offline`, disconnect, join; idempotent."""
        if self._stop.is_set():
            return
        self._close_by_s = time.monotonic() + timeout_s
        self._stop.set()
        self._waker.wake()
        # A name look-up or a connection attempt in progress cannot be interrupted; such a thread
        # has nothing to send and ends with the process.
        is_connected = self._state[0] is ConnectionState.CONNECTED
        self._thread.join(timeout_s + _JOIN_S if is_connected else _JOIN_S)
        if self._thread.is_alive():
            logger.warning("mqtt.not_joined; it is still waiting for the network")

    @property
    def state(self) -> tuple[ConnectionState, str]:
        """Return the state of the connection, and the reason when it is not connected."""
        return self._state

    def publish(self, message: Message, *, waits: bool = False) -> None:
        """Hand over a message that is not an event; never blocks.

        waits: in memory for a connection; a transient message is else dropped without one.
        Raises PublishError when the network thread has died.
        """
        self._check_alive()
        self._outbox.put(Outgoing(message, waits=waits))
        self._waker.wake()

    def publish_event(self, topic: str, body: bytes) -> int:
        """Hand an encoded `EventBody` to the spool and return its seq; never waits.

        Raises PublishError when the network thread or the spool's writer has died.
        """
        self._check_alive()
        seq = self._queue.put(topic, body)
        self._waker.wake()
        return seq

    def take_command(self) -> IncomingCommand | None:
        """Return the next command, None when there is none."""
        return self._inbox.get()

    def respond(self, command: IncomingCommand, response: Response) -> None:
        """Answer a command on its MQTT 5 response topic, else on `response/<name>`."""
        topic = command.response_topic or ""
        is_usable = topic and "#" not in topic and "+" not in topic
        # A response must never act as a command, or pass for an event or state of this device.
        is_own = topic.startswith(f"{self._topics.base}/")
        if not is_usable or (is_own and not topic.startswith(self._topics.response(""))):
            topic = self._topics.response(command.name)
        message = Message(topic, encode(response), qos=1)
        self._outbox.put(Outgoing(message, command.correlation_data))
        self._waker.wake()

    def counters(self) -> MqttStats:
        """Return the connection's state and counters."""
        state, reason = self._state
        counts, sender = self._counts, self._events.counts
        return MqttStats(
            state=f"{state}: {reason}" if reason else str(state),
            connects=counts.connects,
            refusals=counts.refusals,
            sent=sender.sent,
            sent_again=sender.sent_again,
            acknowledged=sender.acknowledged,
            rejected=sender.rejected,
            in_flight=self._events.in_flight,
            dropped=self._outbox.dropped + counts.turned_away,
            commands=self._inbox.taken,
            commands_refused=self._inbox.refused,
            ack_ms_p50=round(self._events.latency_ms(0.5), 2),
            ack_ms_p95=round(self._events.latency_ms(0.95), 2),
        )

    def _check_alive(self) -> None:
        if not self._thread.is_alive() and not self._stop.is_set():
            raise PublishError("the MQTT thread died, see the log above; restart the daemon")

    # The methods below run in the network thread.

    def _run(self) -> None:
        backoff = Backoff(self._config.retry_min_s, self._config.retry_max_s)
        try:
            while not self._stop.is_set():
                end = self._hold_connection()
                if end is not None and not self._stop.is_set():
                    self._stop.wait(self._delay_s(end, backoff))
        finally:
            self._set_state(ConnectionState.CLOSED, "" if self._stop.is_set() else "thread died")
            self._waker.close()

    def _hold_connection(self) -> ConnectionEndedError | None:
        """Connect and serve; return why the connection ended, None after `close`."""
        connection = None
        handlers = Handlers(self._on_acknowledged, self._on_received, self._on_no_subscription)
        try:
            connection = Connection(self._config, self._identity, self._protocol, handlers)
            connection.open(self._waker, self._stop.is_set)
            self._begin(connection)
            while not self._stop.is_set():
                self._send_discovery_again()
                self._feed(connection)
                connection.pump(self._waker, 1.0)
                self._events.settle()
            self._say_goodbye(connection)
        except ConnectionEndedError as error:
            return error
        except ConfigError as error:
            return ConnectionEndedError(EndKind.REFUSED, str(error))
        except OSError as error:  # no file descriptor is left, not even for an attempt
            return ConnectionEndedError(EndKind.LOST, error.strerror or str(error))
        finally:
            self._events.settle()
            self._outbox.close()
            if connection is not None:
                connection.abort()
        return None

    def _send_discovery_again(self) -> None:
        if time.monotonic() >= self._discovery_due_s:
            self._discovery_due_s = math.inf
            self._outbox.send_again(self._config.discovery_prefix)

    def _begin(self, connection: Connection) -> None:
        self._counts.connects += 1
        self._connected_s = time.monotonic()
        self._others = {connection.publish(self._birth): self._birth.topic}
        connection.subscribe(self._topics.command("+"))
        if self._config.discovery:
            connection.subscribe(f"{self._config.discovery_prefix}/status")
        self._outbox.open()
        self._events.begin()
        # Last: a thread that sees this state may rely on an open connection.
        self._set_state(ConnectionState.CONNECTED, f"MQTT {connection.protocol_name}")

    def _feed(self, connection: Connection) -> bool:
        """Send what broker and socket accept; return whether more is left or in flight.

        All but events share half of the broker's window, so that a burst of commands, each of
        which is answered, does not hold up events.
        """
        share = max(1, connection.window // 2)
        while not connection.is_congested:
            in_flight = len(self._others) + self._events.in_flight
            if len(self._others) >= share or in_flight >= connection.window:
                break
            outgoing = self._outbox.take()
            if outgoing is None:
                break
            message = outgoing.message
            if not connection.fits(message, outgoing.correlation_data):
                self._turn_away(message.topic, TOO_LARGE)
                continue
            message_id = connection.publish(message, outgoing.correlation_data)
            if message.qos:
                self._others[message_id] = message.topic
        room = connection.window - len(self._others)
        return self._events.feed(connection, room) or bool(self._others) or connection.is_congested

    def _say_goodbye(self, connection: Connection) -> None:
        """Send the rest, then `offline`, then disconnect, all within the time of `close`."""
        flush_by_s = self._close_by_s - _GOODBYE_S
        while self._feed(connection) and time.monotonic() < flush_by_s:
            connection.pump(self._waker, 0.1)
            self._events.settle()
        goodbye_id = connection.publish(self._death)
        self._others[goodbye_id] = self._death.topic
        while goodbye_id in self._others and time.monotonic() < self._close_by_s:
            connection.pump(self._waker, 0.1)
        connection.close()

    def _delay_s(self, end: ConnectionEndedError, backoff: Backoff) -> float:
        """Record why the connection ended; return how long to wait before the next attempt."""
        is_auto = self._config.protocol == "auto"
        is_lost = self._state[0] is ConnectionState.CONNECTED
        if is_auto and end.kind is EndKind.UNSUPPORTED:
            if self._protocol is MQTTProtocolVersion.MQTTv5:
                self._protocol = MQTTProtocolVersion.MQTTv311
                return 0.0
            self._protocol = MQTTProtocolVersion.MQTTv5
        elif is_auto and is_lost:
            self._protocol = MQTTProtocolVersion.MQTTv5  # the broker may have been upgraded
        if end.kind is EndKind.REFUSED:
            self._counts.refusals += 1
            self._set_state(ConnectionState.REFUSED, end.reason)
            return backoff.longest_s()
        is_short = is_lost and time.monotonic() - self._connected_s < STABLE_S
        reason = f"{end.reason}; {SHORT_LIVED}" if is_short else end.reason
        self._set_state(ConnectionState.LOST, reason)
        if is_lost:
            backoff.reset_after(time.monotonic() - self._connected_s, STABLE_S)
        return backoff.next_s()

    def _set_state(self, state: ConnectionState, reason: str) -> None:
        """Change the state; log it unless it was the last one logged."""
        self._state = (state, reason)
        if self._state == self._logged_state:
            return
        self._logged_state = self._state
        where = f"{self._config.host}:{self._config.port}"
        if state is ConnectionState.CONNECTED:
            logger.info("mqtt.connected broker=%s protocol=%s", where, reason)
        elif state is ConnectionState.REFUSED:
            logger.error(
                "mqtt.refused broker=%s reason=%s; correct the mqtt section or the broker's "
                "settings, retry_s=%.0f",
                where,
                reason,
                self._config.retry_max_s,
            )
        elif state is ConnectionState.LOST:
            logger.warning("mqtt.lost broker=%s reason=%s; events wait in the spool", where, reason)

    def _on_acknowledged(self, message_id: int, reason: int) -> None:
        if self._events.acknowledged(message_id, reason):
            return
        topic = self._others.pop(message_id, None)
        if topic is not None and reason >= 128:
            self._turn_away(topic, reason)

    def _turn_away(self, topic: str, reason: int) -> None:
        """Count a message that the broker does not accept; log each topic once.

        reason: MQTT 5 reason code.
        """
        self._counts.turned_away += 1
        if topic not in self._turned_away and len(self._turned_away) < MAX_LOGGED_TOPICS:
            self._turned_away.add(topic)
            logger.error(
                "mqtt.message_refused topic=%s reason=%d; %s", topic, reason, fix_of(reason)
            )

    def _on_received(self, incoming: Incoming) -> None:
        if incoming.topic == f"{self._config.discovery_prefix}/status":
            if incoming.payload == b"online":
                # Spread: Home Assistant asks every board of a fleet at the same moment.
                self._discovery_due_s = time.monotonic() + random.uniform(0, DISCOVERY_SPREAD_S)  # noqa: S311
            return
        command, fault = self._inbox.put(incoming)
        if fault:
            transaction = transaction_of(incoming.payload)
            self.respond(command, Response(status="error", error=fault, transaction=transaction))

    def _on_no_subscription(self, topic: str, reason: str) -> None:
        logger.error(
            "mqtt.subscription_refused topic=%s reason=%s; allow this user to read it",
            topic,
            reason,
        )
