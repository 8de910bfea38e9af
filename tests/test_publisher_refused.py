"""Messages refused by the broker for rights or size are reported and stop nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge.config import SpoolConfig
from edge.messages import Message
from edge.publisher import event_sender
from mosquitto import Mosquitto, Subscriber
from publishing import (
    EVENTS,
    TOPICS,
    Start,
    body,
    both_protocols,
    events,
    overfill,
    seqs,
    wait_acknowledged,
    wait_connected,
)
from waiting import wait_until

INFO = TOPICS.of("info")


def rights_in(folder: Path, text: str) -> Path:
    path = folder / "rights"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_forbidden_event_waits_until_it_is_allowed(
    mosquitto_program: str,
    tmp_path: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(event_sender, "REJECTED_RETRY_S", 0.2)
    rights = rights_in(tmp_path, "topic read #\ntopic write edge/gate/status\n")
    broker = Mosquitto(tmp_path, settings=f"acl_file {rights}")
    with broker, Subscriber(broker.port) as subscriber:
        publisher, spool = start(broker.port, protocol="5")
        for number in range(3):
            publisher.publish_event(EVENTS, body(number))
        wait_until(lambda: int(publisher.counters().rejected) >= 4)
        assert spool.counters().waiting == 3
        rights.write_text("topic readwrite #\n")
        broker.reload()
        wait_acknowledged(spool)
        received = events(subscriber.wait_for(lambda r: len(set(seqs(r))) == 3))
    assert all(e.historical for e in received)
    assert "mqtt.event_rejected topic=edge/gate/front/events reason=135" in caplog.text


def test_event_larger_than_the_broker_accepts_does_not_block_the_others(
    mosquitto_program: str, tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path, settings="max_packet_size 2000")
    with broker, Subscriber(broker.port) as subscriber:
        publisher, spool = start(broker.port, protocol="5")
        for size in (0, 3000, 0):
            publisher.publish_event(EVENTS, body(1, size))
        assert seqs(subscriber.wait_for_topic(EVENTS, 2)) == [1, 3]
        wait_acknowledged(spool)
    assert "mqtt.event_dropped boot_id=boot-1 seq=2" in caplog.text


def test_message_larger_than_the_broker_accepts_does_not_end_the_connection(
    mosquitto_program: str, tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path, settings="max_packet_size 2000")
    with broker, Subscriber(broker.port) as subscriber:
        publisher, _ = start(broker.port, protocol="5")
        wait_connected(publisher)
        for _ in range(2):
            publisher.publish(Message(TOPICS.camera("front", "snapshot"), bytes(3000)))
        publisher.publish(Message(INFO, bytes(3000), qos=1, retain=True))
        publisher.publish(Message(TOPICS.of("stats"), b"small"))
        assert subscriber.wait_for_topic(TOPICS.of("stats"))
    assert publisher.counters().connects == 1
    assert publisher.counters().dropped == 3
    assert caplog.text.count("mqtt.message_refused topic=edge/gate/front/snapshot") == 1
    assert f"mqtt.message_refused topic={INFO} reason=149; raise the broker's limit" in caplog.text


def test_forbidden_message_is_reported_once(
    mosquitto_program: str, tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    rights = rights_in(tmp_path, "topic read #\ntopic write edge/gate/status\n")
    with Mosquitto(tmp_path, settings=f"acl_file {rights}") as broker:
        publisher, _ = start(broker.port, protocol="5")
        wait_connected(publisher)
        for number in range(3):
            publisher.publish(Message(INFO, b"%d" % number, qos=1, retain=True))
            wait_until(lambda n=number: publisher.counters().dropped == n + 1)
    assert caplog.text.count(f"mqtt.message_refused topic={INFO} reason=135; allow this user") == 1


def test_forbidden_lost_range_is_retried_later(
    mosquitto_program: str,
    tmp_path: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(event_sender, "LOST_CHECK_S", 0.02)
    monkeypatch.setattr(event_sender, "REJECTED_RETRY_S", 0.5)
    rights = rights_in(tmp_path, "topic read #\ntopic write edge/gate/front/events\n")
    broker = Mosquitto(tmp_path, settings=f"acl_file {rights}")
    publisher, spool = start(broker.port, protocol="5", spool=SpoolConfig(max_bytes=65_536))
    overfill(publisher, spool)
    assert spool.lost()
    with broker, Subscriber(broker.port, TOPICS.of("lost")) as subscriber:
        wait_until(lambda: int(publisher.counters().rejected) >= 1)
        begin_s = time.monotonic()
        wait_acknowledged(spool)  # events continue meanwhile
        wait_until(lambda: int(publisher.counters().rejected) >= 3)
        assert time.monotonic() - begin_s > 0.5
        assert spool.lost()
        rights.write_text("topic readwrite #\n")
        broker.reload()
        assert subscriber.wait_for_topic(TOPICS.of("lost"))
        wait_until(lambda: not spool.lost())
    assert "mqtt.event_rejected topic=edge/gate/lost reason=135" in caplog.text


@both_protocols
def test_forbidden_command_subscription_is_reported(
    mosquitto_program: str,
    tmp_path: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("this mosquitto has no plugin that refuses subscriptions")
    rights = rights_in(tmp_path, '{"defaultACLAccess": {"publishClientSend": true}}')
    settings = f"plugin {plugin}\nplugin_opt_config_file {rights}"
    with Mosquitto(tmp_path, settings=settings) as broker:
        publisher, spool = start(broker.port, protocol=protocol, discovery=False)
        wait_until(lambda: "mqtt.subscription_refused" in caplog.text)
        publisher.publish_event(EVENTS, body(1))  # events continue
        wait_acknowledged(spool)
    assert f"topic={TOPICS.command('+')} reason=" in caplog.text
    assert "allow this user to read it" in caplog.text
