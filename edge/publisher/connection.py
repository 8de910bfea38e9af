"""One connection to the broker, from CONNECT to its end; used by the network thread alone.

Method: our own poll loop drives paho's client, so all MQTT work happens in one thread and needs
no lock. A connection is never reused after its end: the spool, not paho, knows what must be sent
again.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import MqttConfig
from edge.messages import Message
from edge.publisher import options

CONNACK_TIMEOUT_S = 10.0
# paho must look at its keep-alive timers about once a second.
_TICK_S = 1.0
_UNSUPPORTED_PROTOCOL = 132
# MQTT 5.0 section 3.2.2.2: unspecified error, unavailable, busy, rate exceeded: these pass.
_PASSING_REASONS = frozenset({128, 136, 137, 159})
# X509_V_ERR_CERT_NOT_YET_VALID and …_HAS_EXPIRED: they pass on a board that has the time only some
# seconds after its start.
_TIME_FAULTS = frozenset({9, 10})
_MAX_WINDOW = 65_535
# Of a PUBLISH besides topic, payload and correlation data: header, lengths, id, properties.
_PACKET_OVERHEAD_BYTES = 32


class EndKind(enum.Enum):
    """Why a connection ended, as far as the next attempt depends on it.

    UNSUPPORTED: the broker may not know this version of the protocol.
    """

    LOST = "lost"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"


class ConnectionEndedError(Exception):
    """The connection could not be made or is gone."""

    def __init__(self, kind: EndKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message received on a subscribed topic; the last two fields are None before MQTT 5."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str | None
    correlation_data: bytes | None


@dataclass(frozen=True, slots=True)
class Handlers:
    """Callbacks that `pump` calls; they must not use the connection.

    acknowledged: message id and MQTT 5 reason code (0 or 16 = good) of a QoS 1 publication.
    received: a delivered message.
    subscription_refused: topic filter and reason.
    """

    acknowledged: Callable[[int, int], None]
    received: Callable[[Incoming], None]
    subscription_refused: Callable[[str, str], None]


class Waker:
    """Ends a `pump` from another thread."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)  # noqa: FBT003 - the socket API
        self._sender.setblocking(False)  # noqa: FBT003

    def fileno(self) -> int:
        """Return the file descriptor to poll."""
        return self._receiver.fileno()

    def wake(self) -> None:
        """End the current `pump`, or the next one at once."""
        with contextlib.suppress(OSError):  # closed, or many calls are waiting already
            self._sender.send(b"\0")

    def clear(self) -> None:
        """Discard all calls of `wake` so far."""
        with contextlib.suppress(BlockingIOError):
            while self._receiver.recv(4096):
                pass

    def close(self) -> None:
        """Release both ends."""
        self._receiver.close()
        self._sender.close()


class Connection:
    """An open connection. `open` must come first, `close` last.

    window: QoS 1 publications the broker accepts at one time.
    max_packet_bytes: largest packet the broker accepts, None = no limit given.
    """

    def __init__(
        self,
        config: MqttConfig,
        identity: options.Identity,
        protocol: MQTTProtocolVersion,
        handlers: Handlers,
    ) -> None:
        self._config = config
        self._handlers = handlers
        self._end: ConnectionEndedError | None = None
        self._is_open = False
        self._subscriptions: dict[int, str] = {}
        self.window = _MAX_WINDOW
        self.max_packet_bytes: int | None = None
        self._client = options.make_client(config, identity, protocol)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def open(self, waker: Waker, is_stopping: Callable[[], bool]) -> None:
        """Connect and wait until the broker has accepted the connection.

        Raises ConnectionEndedError when it has not.
        """
        where = f"{self._config.host}:{self._config.port}"
        try:
            options.connect(self._client, self._config)
        except ssl.SSLCertVerificationError as error:
            reason = f"certificate of {where}: {error.verify_message}"
            if error.verify_code in _TIME_FAULTS:
                reason += "; is this board's clock right?"
                raise ConnectionEndedError(EndKind.LOST, reason) from None
            raise ConnectionEndedError(EndKind.REFUSED, reason) from None
        except ssl.SSLError as error:
            raise ConnectionEndedError(
                EndKind.REFUSED, f"TLS with {where}: {error.reason or error}"
            ) from None
        except ValueError as error:  # an invalid host name
            raise ConnectionEndedError(EndKind.REFUSED, f"mqtt.host {where}: {error}") from None
        except OSError as error:
            reason = f"{where}: {error.strerror or error}"
            if isinstance(error, ConnectionResetError) and options.is_tls(self._config):
                reason += "; is it a port for TLS, as 8883 is?"
            raise ConnectionEndedError(EndKind.LOST, reason) from None
        self._set_option("TCP_NODELAY")
        deadline_s = time.monotonic() + CONNACK_TIMEOUT_S
        while not self._is_open:
            if time.monotonic() > deadline_s or is_stopping():
                # A broker older than MQTT 5 may misread the packet and wait for more bytes.
                raise ConnectionEndedError(EndKind.UNSUPPORTED, f"{where}: no answer to CONNECT")
            self.pump(waker, _TICK_S)

    def pump(self, waker: Waker, timeout_s: float) -> None:
        """Wait for the network, the waker or the time-out, then read and write what is ready.

        Raises ConnectionEndedError when the connection is gone.
        """
        sock = self._client.socket()
        if sock is not None:
            readable, writable = self._wait(sock, waker, min(timeout_s, _TICK_S))
            if readable:
                self._client.loop_read()
                self._acknowledge_at_once()
            if writable and self._client.socket() is not None:
                self._client.loop_write()
            if self._client.socket() is not None:
                self._client.loop_misc()
        self._raise_if_ended()

    def fits(self, message: Message, correlation_data: bytes | None = None) -> bool:
        """Return whether the broker accepts a packet of that size.

        A larger one would end the connection (MQTT 5.0 section 3.2.2.3.6).
        """
        if self.max_packet_bytes is None:
            return True
        parts = (message.topic.encode(), message.payload, correlation_data or b"")
        return sum(map(len, parts)) + _PACKET_OVERHEAD_BYTES <= self.max_packet_bytes

    def publish(self, message: Message, correlation_data: bytes | None = None) -> int:
        """Send a message and return its id; `pump` sends what the socket does not take now.

        Raises ValueError for a topic that cannot be published to.
        """
        properties = None
        if correlation_data is not None and self._client.protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation_data
        return self._client.publish(
            message.topic, message.payload, message.qos, message.retain, properties
        ).mid

    def subscribe(self, topic: str) -> None:
        """Subscribe to a topic filter at QoS 1.

        MQTT 5 tells whether a message was published as retained; before, only the first ones after
        subscribing are known to be.
        """
        if self._client.protocol == MQTTProtocolVersion.MQTTv5:
            as_published = SubscribeOptions(qos=1, retainAsPublished=True)
            _, message_id = self._client.subscribe(topic, options=as_published)
        else:
            _, message_id = self._client.subscribe(topic, qos=1)
        if message_id is not None:
            self._subscriptions[message_id] = topic

    @property
    def is_congested(self) -> bool:
        """Return whether published bytes still wait for the socket."""
        return self._client.want_write()

    @property
    def protocol_name(self) -> str:
        """Return `5` or `3.1.1`."""
        return "5" if self._client.protocol == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    def close(self) -> None:
        """Send DISCONNECT, so that the broker does not publish the will, and close."""
        self._client.on_disconnect = self._client.on_publish = self._client.on_message = None
        self._client.disconnect()
        self.abort()

    def abort(self) -> None:
        """Close without DISCONNECT: the broker publishes the will."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _wait(self, sock: mqtt.SocketLike, waker: Waker, timeout_s: float) -> tuple[bool, bool]:
        """Return whether the socket can be read and written; the waker only ends the wait."""
        events = select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)
        poll = select.poll()
        poll.register(sock.fileno(), events)
        poll.register(waker.fileno(), select.POLLIN)
        # TLS may hold decrypted bytes that polling the socket does not show.
        is_buffered = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        ready = dict(poll.poll(0 if is_buffered else timeout_s * 1000))
        if waker.fileno() in ready:
            waker.clear()
        state = ready.get(sock.fileno(), 0)
        return is_buffered or bool(state & ~select.POLLOUT), bool(state & select.POLLOUT)

    def _acknowledge_at_once(self) -> None:
        """Let the kernel acknowledge received data now, not up to 40 ms later.

        Brokers hold back a small packet until the previous one is acknowledged (Nagle). Measured
        with mosquitto, a 1 ms answer took 11 ms. The kernel forgets this setting, so it is
        repeated.
        """
        self._set_option("TCP_QUICKACK")

    def _set_option(self, name: str) -> None:
        """Enable a TCP option if the system has it and the socket is open."""
        sock, option = self._client.socket(), getattr(socket, name, None)
        if isinstance(sock, socket.socket) and option is not None:
            with contextlib.suppress(OSError):  # just reset; the next read reports it
                sock.setsockopt(socket.IPPROTO_TCP, option, 1)

    def _raise_if_ended(self) -> None:
        if self._end is not None:
            raise self._end
        if self._client.socket() is None:
            raise ConnectionEndedError(EndKind.LOST, "connection closed")

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if not reason.is_failure:
            self._is_open = True
            self.window = getattr(properties, "ReceiveMaximum", _MAX_WINDOW)
            self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
            return
        kind = EndKind.LOST if reason.value in _PASSING_REASONS else EndKind.REFUSED
        if reason.value == _UNSUPPORTED_PROTOCOL:
            kind = EndKind.UNSUPPORTED
        self._end = ConnectionEndedError(kind, str(reason).lower())

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if self._end is not None:
            return
        stated = str(reason).lower() if flags.is_disconnect_packet_from_server else ""
        if self._is_open:
            self._end = ConnectionEndedError(EndKind.LOST, stated or f"connection lost ({reason})")
        else:
            # A broker older than MQTT 5 may close without giving a reason. With TLS 1.3, a client
            # certificate is looked at only after the handshake.
            question = (
                "does it ask for another client certificate (mqtt.cert_file)?"
                if options.is_tls(self._config)
                else "is it an MQTT port, and is TLS set as there?"
            )
            self._end = ConnectionEndedError(
                EndKind.UNSUPPORTED, f"closed before its answer; {question}"
            )

    def _on_publish(
        self, _client: Any, _data: Any, message_id: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self._handlers.acknowledged(message_id, int(reason.value))

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # MQTT-1.5.4-1 forbids it; a broker should not let it through
            return
        self._handlers.received(
            Incoming(
                topic,
                bytes(message.payload),
                message.retain,
                getattr(message.properties, "ResponseTopic", None),
                getattr(message.properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(
        self, _client: Any, _data: Any, message_id: int, reasons: Any, _properties: Any
    ) -> None:
        topic = self._subscriptions.pop(message_id, "")
        for reason in reasons:
            if reason.is_failure:
                self._handlers.subscription_refused(topic, str(reason).lower())
