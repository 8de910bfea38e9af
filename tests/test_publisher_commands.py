"""Commands and Home Assistant's birth, over a real mosquitto."""

from __future__ import annotations

import json

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.messages import (
    Message,
    Response,
)
from mosquitto import (
    Mosquitto,
    Subscriber,
)
from publishing import (
    STATUS,
    TOPICS,
    Start,
)
from waiting import wait_until


def test_command_is_taken_and_answered(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    publisher, _ = start(mosquitto.port)
    mosquitto.wait_for_log("edge/gate/command/+ (QoS 1)")
    subscriber.publish(TOPICS.command("pause"), b'{"for_s":5}')
    wait_until(lambda: publisher.counters().commands == 1)
    command = publisher.take_command()
    assert command is not None
    assert (command.name, command.payload) == ("pause", b'{"for_s":5}')
    assert publisher.take_command() is None
    publisher.respond(command, Response(status="ok", transaction="t1"))
    answer = subscriber.wait_for_topic(TOPICS.response("pause"))[0]
    assert json.loads(answer.payload) == {"status": "ok", "transaction": "t1"}
    assert answer.qos == 1


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("app/answers", "app/answers"),
        (TOPICS.command("reload"), TOPICS.response("pause")),  # an answer is never a command
        (TOPICS.camera("front", "events"), TOPICS.response("pause")),  # nor looks like an event
        (TOPICS.of("status"), TOPICS.response("pause")),
        (TOPICS.response("mine"), TOPICS.response("mine")),
        ("a/+/b", TOPICS.response("pause")),
    ],
)
def test_mqtt5_response_topic_and_correlation_data_are_honoured(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, asked: str, answered: str
) -> None:
    publisher, _ = start(mosquitto.port)
    mosquitto.wait_for_log("edge/gate/command/+ (QoS 1)")
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = asked
    properties.CorrelationData = b"\x00\xffid"
    subscriber.publish(TOPICS.command("pause"), b"", properties=properties)
    wait_until(lambda: publisher.counters().commands == 1)
    command = publisher.take_command()
    assert command is not None
    publisher.respond(command, Response(status="ok"))
    answer = subscriber.wait_for_topic(answered)[0]
    assert answer.properties.CorrelationData == b"\x00\xffid"


def test_oversized_retained_and_surplus_commands_are_refused_with_a_reason(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    subscriber.publish(TOPICS.command("pause"), b"{}", retain=True)
    publisher, _ = start(mosquitto.port)
    response = TOPICS.response("pause")
    retained = subscriber.wait_for_topic(response)[0]
    assert "publish it without retain" in json.loads(retained.payload)["error"]
    subscriber.publish(TOPICS.command("pause"), bytes(16_385))
    oversized = subscriber.wait_for_topic(response, 2)[1]
    assert "over 16384 bytes" in json.loads(oversized.payload)["error"]
    for _ in range(40):
        subscriber.publish(TOPICS.command("pause"), b"{}".ljust(16_384))
    surplus = subscriber.wait_for_topic(response, 2 + 8)[2:]
    assert all("32 commands wait already" in json.loads(r.payload)["error"] for r in surplus)
    assert publisher.counters().commands == 32
    assert publisher.counters().commands_refused == 10


@pytest.mark.parametrize("payload", [b'{"for_s":5}', b""], ids=["retained", "its removal"])
def test_retained_command_is_refused_while_connected(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, payload: bytes
) -> None:
    publisher, _ = start(mosquitto.port)
    mosquitto.wait_for_log("edge/gate/command/+ (QoS 1)")
    subscriber.publish(TOPICS.command("pause"), payload, retain=True)
    answer = subscriber.wait_for_topic(TOPICS.response("pause"))[0]
    assert "publish it without retain" in json.loads(answer.payload)["error"]
    assert publisher.take_command() is None


def test_discovery_is_sent_again_when_home_assistant_comes_online(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    publisher, _ = start(mosquitto.port)
    discovery = "homeassistant/device/gate/config"
    publisher.publish(Message(discovery, b"{}", qos=1, retain=True))
    publisher.publish(Message(TOPICS.of("info"), b"{}", qos=1, retain=True))
    subscriber.wait_for_topic(discovery)
    mosquitto.wait_for_log("homeassistant/status (QoS 1)")
    subscriber.publish("homeassistant/status", b"offline")
    subscriber.publish("homeassistant/status", b"online")
    subscriber.wait_for_topic(discovery, 2)
    publisher.close()
    received = subscriber.wait_for_topic(STATUS, 2)
    assert received[-1].payload.startswith(b'{"status":"offline"')
    assert sum(r.topic == discovery for r in subscriber.received) == 2
    assert sum(r.topic == TOPICS.of("info") for r in subscriber.received) == 1
