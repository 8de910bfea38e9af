"""Packets one by one, with a broker that follows a script."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edge.config import MqttConfig
from edge.messages import Message, Response
from edge.publisher import ConnectionState, IncomingCommand, connection, options
from edge.publisher.connection import Handlers
from mosquitto import LOOPBACK, Certificates
from publishing import EVENTS, STATUS, TOPICS, Start, body, wait_connected
from waiting import wait_until


@pytest.mark.parametrize("reason", [136, 137])
def test_busy_broker_is_retried_soon(start: Start, reason: int) -> None:
    with socket.create_server((LOOPBACK, 0)) as broker:
        broker.settimeout(10)
        publisher, _ = start(broker.getsockname()[1], protocol="5", retry_max_s=60)
        for _ in range(2):  # a refusal would be counted and retried after a minute
            with accepted(broker, reason):
                wait_until(lambda: publisher.state[0] is ConnectionState.LOST)
        assert publisher.counters().refusals == 0


@pytest.mark.parametrize(("reason", "shown"), [(154, "retain"), (155, "qos")])
def test_refusal_for_what_the_broker_lacks_names_its_settings(
    start: Start, caplog: pytest.LogCaptureFixture, reason: int, shown: str
) -> None:
    with socket.create_server((LOOPBACK, 0)) as broker:
        broker.settimeout(10)
        publisher, _ = start(broker.getsockname()[1], protocol="5", retry_max_s=60)
        with accepted(broker, reason):
            wait_until(lambda: publisher.state[0] is ConnectionState.REFUSED)
    assert f"reason={shown} not supported; correct the mqtt section or the broker's" in caplog.text


def test_receive_maximum_of_the_broker_is_respected(start: Start) -> None:
    with socket.create_server((LOOPBACK, 0)) as broker:
        broker.settimeout(10)
        publisher, _ = start(broker.getsockname()[1], protocol="5", discovery=False)
        publisher.publish_event(EVENTS, body(1))
        receive_maximum = b"\x21\x00\x01"
        with accepted(broker, properties=receive_maximum) as client:
            # A message with QoS 1, whose acknowledgement follows all that could be sent before.
            client.sendall(b"\x32\x07\x00\x01x\x00\x09\x00y")
            sent = received_until(client, b"\x40\x02\x00\x09")
            assert b"online" in sent  # `status` has QoS 1, too
            assert EVENTS.encode() not in sent
            client.sendall(b"\x40\x02\x00\x01")
            received_until(client, EVENTS.encode())
            publisher.publish(Message(TOPICS.of("info"), b"a state", qos=1, retain=True))
            for number in (b"\x0a", b"\x0b"):  # it could be sent between the two
                client.sendall(b"\x32\x07\x00\x01x\x00" + number + b"\x00y")
                sent = received_until(client, b"\x40\x02\x00" + number)
                assert b"a state" not in sent
            client.sendall(b"\x40\x02\x00\x03")
            received_until(client, b"a state")


def test_event_does_not_wait_for_a_burst_of_answers(start: Start) -> None:
    with socket.create_server((LOOPBACK, 0)) as broker:
        broker.settimeout(10)
        publisher, _ = start(broker.getsockname()[1], protocol="5", discovery=False)
        receive_maximum = b"\x21\x00\x04"
        with accepted(broker, properties=receive_maximum) as client:
            wait_connected(publisher)
            for _ in range(10):
                publisher.respond(IncomingCommand("pause", b"", None, None), Response(status="ok"))
            publisher.publish_event(EVENTS, body(1))
            received_until(client, EVENTS.encode())  # nothing is acknowledged


def test_output_beyond_the_socket_buffer_is_sent_later() -> None:
    with socket.create_server((LOOPBACK, 0)) as broker, ThreadPoolExecutor() as pool:
        config = MqttConfig(host=LOOPBACK, port=broker.getsockname()[1])
        identity = options.Identity("edge-gate", Message(STATUS, b"offline"))
        handlers = Handlers(lambda *_: None, lambda _: None, lambda *_: None)
        line = connection.Connection(config, identity, MQTTProtocolVersion.MQTTv5, handlers)
        with closing(connection.Waker()) as waker, closing(line):
            answer = pool.submit(accepted, broker)
            line.open(waker, lambda: False)
            line._client.socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with answer.result() as client:
                while not line.is_congested:  # the broker reads nothing yet
                    line.publish(Message(EVENTS, bytes(10_000)))
                line.publish(Message(EVENTS, b"the end"))
                received = pool.submit(received_until, client, b"the end")
                give_up_s = time.monotonic() + 20
                while line.is_congested and time.monotonic() < give_up_s:
                    line.pump(waker, 0.1)
                assert not line.is_congested
                assert received.result().count(EVENTS.encode()) > 1


def accepted(broker: socket.socket, reason: int = 0, properties: bytes = b"") -> socket.socket:
    """A client whose CONNECT was answered with CONNACK (MQTT 5.0 section 3.2)."""
    client, _ = broker.accept()
    client.settimeout(10)
    client.recv(4096)
    rest = bytes([0, reason, len(properties)]) + properties
    client.sendall(bytes([0x20, len(rest)]) + rest)
    return client


def received_until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        received += client.recv(4096)
    return received


def test_unread_wakes_never_block() -> None:
    waker = connection.Waker()
    poll = select.poll()
    poll.register(waker.fileno(), select.POLLIN)
    with closing(waker):
        # The main loop publishes while the network thread waits for a name to be resolved.
        thread = threading.Thread(target=lambda: [waker.wake() for _ in range(10_000)], daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        waker.clear()
        assert not poll.poll(0)
        waker.wake()
        assert poll.poll(0)
    waker.wake()  # nor does a closed one


def command(topic: bytes) -> bytes:
    """A PUBLISH at QoS 0 without payload and properties (MQTT 5.0 section 3.3)."""
    rest = len(topic).to_bytes(2, "big") + topic + b"\x00"
    return bytes([0x30, len(rest)]) + rest


def test_commands_that_tls_delivers_together_are_all_taken_at_once(
    start: Start, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TICK_S", 60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    with context.wrap_socket(socket.create_server((LOOPBACK, 0)), server_side=True) as broker:
        broker.settimeout(10)
        port = broker.getsockname()[1]
        publisher, _ = start(port, host="localhost", protocol="5", ca_file=str(certificates.ca))
        with accepted(broker) as client:
            wait_connected(publisher)
            client.sendall(20 * command(TOPICS.command("pause").encode()))  # one TLS record
            wait_until(lambda: publisher.counters().commands == 20)


def test_topic_that_is_not_utf8_is_ignored(start: Start) -> None:
    with socket.create_server((LOOPBACK, 0)) as broker:
        broker.settimeout(10)
        publisher, _ = start(broker.getsockname()[1], protocol="5")
        with accepted(broker) as client:
            client.sendall(command(b"edge/\xff") + command(TOPICS.command("pause").encode()))
            wait_until(lambda: publisher.counters().commands == 1)
            assert publisher.state[0] is ConnectionState.CONNECTED
