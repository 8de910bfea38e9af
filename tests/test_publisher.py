"""Events and states on a real mosquitto: outages, kill -9, lost acknowledgements, the will."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from pathlib import Path

import msgspec
import pytest

from edge.config import MqttConfig, SpoolConfig
from edge.errors import PublishError
from edge.messages import (
    Event,
    LostRange,
    Message,
    Status,
)
from edge.publisher import ConnectionState, Publisher
from edge.publisher.outbox import MAX_MESSAGES
from edge.spool import Spool
from mosquitto import (
    LOOPBACK,
    PERSISTENT,
    Mosquitto,
    Subscriber,
    free_port,
)
from publishing import (
    EVENTS,
    STATUS,
    TOPICS,
    Start,
    body,
    both_protocols,
    events,
    overfill,
    seqs,
    start_child,
    wait_acknowledged,
    wait_connected,
)
from relay import Relay
from spooling import killed, printed
from waiting import wait_until


@both_protocols
def test_events_arrive_in_order_complete_and_are_removed_from_the_spool(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, protocol: str
) -> None:
    publisher, spool = start(mosquitto.port, protocol=protocol)
    wait_connected(publisher)
    assert publisher.state[1] == f"MQTT {protocol}"
    for number in range(1, 201):
        assert publisher.publish_event(EVENTS, body(number)) == number
    received = subscriber.wait_for_topic(EVENTS, 200)
    assert seqs(received) == list(range(1, 201))
    assert {(r.qos, r.retain) for r in received} == {(1, False)}
    assert {(e.boot_id, e.historical) for e in events(received)} == {("boot-1", False)}
    assert [e.id for e in events(received)] == [f"gate-{n}" for n in range(1, 201)]
    wait_acknowledged(spool)
    assert publisher.counters().acknowledged == 200


def test_latency_to_the_acknowledgement_is_measured(mosquitto: Mosquitto, start: Start) -> None:
    publisher, spool = start(mosquitto.port)
    wait_connected(publisher)
    assert publisher.counters().ack_ms_p50 == 0
    begin_s = time.monotonic()
    for number in range(10):
        publisher.publish_event(EVENTS, body(number))
    wait_acknowledged(spool)
    took_ms = 1000 * (time.monotonic() - begin_s)
    counters = publisher.counters()
    assert 0 < counters.ack_ms_p50 <= counters.ack_ms_p95 <= took_ms


def test_event_is_sent_when_it_is_put(mosquitto: Mosquitto, start: Start) -> None:
    publisher, spool = start(mosquitto.port)
    wait_connected(publisher)
    waits_s = []
    for number in range(5):  # the network thread looks by itself every second only
        begin_s = time.monotonic()
        publisher.publish_event(EVENTS, body(number))
        wait_acknowledged(spool)
        waits_s.append(time.monotonic() - begin_s)
    assert min(waits_s) < 0.5


def test_event_that_waited_for_the_broker_is_marked_historical(
    tmp_path: Path, start: Start
) -> None:
    broker = Mosquitto(tmp_path)
    publisher, _ = start(broker.port)
    publisher.publish_event(EVENTS, body(1))
    with broker, Subscriber(broker.port) as subscriber:
        wait_connected(publisher)
        publisher.publish_event(EVENTS, body(2))
        # The first one may have arrived before the subscriber did.
        last = events(subscriber.wait_for(lambda r: seqs(r)[-1:] == [2]))[-1]
        assert not last.historical
        assert publisher.counters().sent_again == 1


def test_events_of_an_earlier_boot_are_sent_first_and_are_historical(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, tmp_path: Path
) -> None:
    with Spool(tmp_path / "spool.sqlite", SpoolConfig(), boot_id="boot-0") as before:
        for number in range(3):
            before.put(EVENTS, body(number))
    publisher, _ = start(mosquitto.port)
    wait_connected(publisher)
    publisher.publish_event(EVENTS, body(9))
    received = events(subscriber.wait_for_topic(EVENTS, 4))
    assert [(e.boot_id, e.seq, e.historical) for e in received] == [
        ("boot-0", 1, True),
        ("boot-0", 2, True),
        ("boot-0", 3, True),
        ("boot-1", 1, False),
    ]


def assert_same_content(received: list[Event]) -> None:
    """Events with the same number are the same, but for what may differ when sent again."""
    known: dict[tuple[str, int], Event] = {}
    for event in received:
        fixed = msgspec.structs.replace(event, historical=False, published_utc="")
        assert known.setdefault((event.boot_id, event.seq), fixed) == fixed


def test_three_broker_restarts_lose_nothing_and_keep_sequence_numbers(
    mosquitto_program: str, tmp_path: Path, start: Start
) -> None:
    broker = Mosquitto(tmp_path, settings=f"{PERSISTENT}{tmp_path}/")
    chance = random.Random(3)
    number = 0
    with broker, Subscriber(broker.port) as subscriber:
        publisher, spool = start(broker.port)
        wait_connected(publisher)
        for restart in range(3):
            for phase in (lambda: None, broker.stop, broker.start):
                phase()
                for _ in range(chance.randint(20, 60)):
                    number += 1
                    assert publisher.publish_event(EVENTS, body(number)) == number
            subscriber.wait_subscribed()
            wait_until(lambda: int(publisher.counters().connects) >= restart + 2)  # noqa: B023
        wait_acknowledged(spool)
        received = events(subscriber.wait_for(lambda r: len(set(seqs(r))) == number))
    assert {e.seq for e in received} == set(range(1, number + 1))
    assert_same_content(received)
    assert {e.id for e in received} == {f"gate-{n}" for n in range(1, number + 1)}
    assert any(e.historical for e in received)
    assert spool.counters().lost == 0


def test_unacknowledged_event_is_sent_again_with_the_same_content(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    with Relay(mosquitto.port) as relay:
        publisher, spool = start(relay.port, max_in_flight=5)
        wait_connected(publisher)
        relay.mute()  # the broker's acknowledgements do not come back
        for number in range(1, 21):
            publisher.publish_event(EVENTS, body(number))
        first = seqs(subscriber.wait_for_topic(EVENTS, 5))
        assert first == [1, 2, 3, 4, 5]  # no more than five under way
        assert publisher.counters().in_flight == 5
        assert spool.counters().waiting == 20
        relay.cut()
        relay.unmute()
        received = events(subscriber.wait_for_topic(EVENTS, 25))
        wait_acknowledged(spool)
    assert [e.seq for e in received] == [1, 2, 3, 4, 5, *range(1, 21)]
    assert [e.historical for e in received] == [False] * 5 + [True] * 20
    assert_same_content(received)


def test_lost_range_is_published_and_then_forgotten(tmp_path: Path, start: Start) -> None:
    broker = Mosquitto(tmp_path, settings=f"{PERSISTENT}{tmp_path}/")
    with broker, Subscriber(broker.port, TOPICS.of("lost")) as subscriber:
        broker.stop()  # it keeps the subscriber's session: nothing published is missed
        publisher, spool = start(broker.port, spool=SpoolConfig(max_bytes=65_536))
        overfill(publisher, spool)
        lost = spool.counters().lost
        assert lost > 0
        broker.start()
        deliveries = subscriber.wait_for_topic(TOPICS.of("lost"))
        assert msgspec.json.decode(deliveries[0].payload, type=LostRange) == LostRange(
            boot_id="boot-1", first_seq=1, last_seq=lost, count=lost
        )
        wait_until(lambda: not spool.lost())
        wait_acknowledged(spool)


def test_kill_9_during_a_run_loses_no_accepted_event(
    mosquitto_program: str, tmp_path: Path
) -> None:
    """Three daemons are killed while the broker comes and goes; the fourth delivers the rest."""
    broker = Mosquitto(tmp_path, settings=f"{PERSISTENT}{tmp_path}/")
    accepted: set[tuple[str, int]] = set()
    with broker, Subscriber(broker.port, EVENTS) as subscriber:
        for boot in range(4):
            child = start_child(broker.port, "auto", tmp_path, f"boot-{boot}")
            numbers = printed(child, 30)
            broker.stop()
            numbers += printed(child, 30)
            broker.start()
            numbers += killed(child)
            accepted |= {(f"boot-{boot}", number) for number in numbers}
        subscriber.wait_subscribed()
        spool = Spool(tmp_path / "spool.sqlite", SpoolConfig(), boot_id="boot-4")
        birth = Status(status="online", boot_id="boot-4", version="1")
        config = MqttConfig(host=LOOPBACK, port=broker.port, retry_min_s=0.05)
        with spool, Publisher(config, TOPICS, spool, birth):
            wait_acknowledged(spool)

        def arrived() -> set[tuple[str, int]]:
            contents = (json.loads(r.payload) for r in subscriber.received)
            return {(c["boot_id"], c["seq"]) for c in contents}

        wait_until(lambda: accepted <= arrived())
        bodies: dict[tuple[str, int], str] = {}
        for received in subscriber.received:
            content = json.loads(received.payload)
            assert content["boot"] == content["boot_id"]  # no number was given to another event
            bodies.setdefault((content["boot_id"], content["seq"]), content["pad"])
        for boot in range(4):
            numbers = sorted(seq for name, seq in bodies if name == f"boot-{boot}")
            assert numbers == list(range(1, len(numbers) + 1))


def test_transient_messages_are_dropped_and_counted_without_a_connection(
    tmp_path: Path, start: Start
) -> None:
    broker = Mosquitto(tmp_path)
    publisher, _ = start(broker.port)
    for outage in (1, 2):
        for _ in range(7):
            publisher.publish(Message(TOPICS.of("stats"), b"old"))
        assert publisher.counters().dropped == 7 * outage
        with broker, Subscriber(broker.port) as subscriber:
            wait_connected(publisher)
            publisher.publish(Message(TOPICS.of("stats"), b"new"))
            assert [r.payload for r in subscriber.wait_for_topic(TOPICS.of("stats"))] == [b"new"]
        wait_until(lambda: publisher.state[0] is ConnectionState.LOST)


def test_newest_state_is_sent_again_on_every_connection(tmp_path: Path, start: Start) -> None:
    broker = Mosquitto(tmp_path)
    publisher, _ = start(broker.port)
    info = TOPICS.of("info")
    publisher.publish(Message(info, b"first", qos=1, retain=True))
    publisher.publish(Message(info, b"second", qos=1, retain=True))
    for _ in range(2):
        with broker, Subscriber(broker.port) as subscriber:
            assert [r.payload for r in subscriber.wait_for_topic(info)] == [b"second"]
            wait_connected(publisher)
        wait_until(lambda: publisher.state[0] is ConnectionState.LOST)


def test_publishing_never_waits_for_a_frozen_broker(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """A half-open connection is found by the keep-alive; afterwards everything arrives."""
    caplog.set_level(logging.INFO)
    publisher, spool = start(mosquitto.port, keepalive_s=2)
    wait_connected(publisher)
    mosquitto.freeze()
    slowest_s = 0.0
    for number in range(1, 301):
        begin_s = time.monotonic()
        publisher.publish_event(EVENTS, body(number, 1000))
        publisher.publish(Message(TOPICS.of("stats"), bytes(100_000)))
        slowest_s = max(slowest_s, time.monotonic() - begin_s)
    assert slowest_s < 2  # the keep-alive: until then it would wait
    wait_until(lambda: publisher.state[0] is ConnectionState.LOST)
    dropped = publisher.counters().dropped
    assert isinstance(dropped, int)
    assert dropped > 300 - MAX_MESSAGES
    mosquitto.thaw()
    subscriber.wait_for(lambda r: len(set(seqs(r))) == 300)
    wait_acknowledged(spool)
    assert caplog.text.count("mqtt.lost") <= 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_death_of_the_network_thread_is_an_error(
    mosquitto: Mosquitto, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Spool) -> int:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(Spool, "last_row", broken)
    publisher, _ = start(mosquitto.port)
    wait_until(lambda: publisher.state == (ConnectionState.CLOSED, "thread died"))
    wait_until(lambda: "mqtt" not in {thread.name for thread in threading.enumerate()})
    with pytest.raises(PublishError, match="the MQTT thread died"):
        publisher.publish(Message(TOPICS.of("stats"), b"1"))
    with pytest.raises(PublishError, match="the MQTT thread died"):
        publisher.publish_event(EVENTS, body(1))


@both_protocols
def test_will_message_reports_a_kill_9(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path, protocol: str
) -> None:
    child = start_child(mosquitto.port, protocol, tmp_path, "boot-7")
    subscriber.wait_for_topic(STATUS)
    killed(child)
    born, died = subscriber.wait_for_topic(STATUS, 2)
    assert msgspec.json.decode(born.payload, type=Status) == Status(
        status="online", boot_id="boot-7", version="1"
    )
    assert msgspec.json.decode(died.payload, type=Status) == Status(
        status="offline", boot_id="boot-7", version="1"
    )
    assert died.qos == 1
    with Subscriber(mosquitto.port, STATUS) as late:
        assert late.wait_for_topic(STATUS)[0].payload == died.payload  # retained


@both_protocols
def test_close_sends_the_remaining_events_and_offline(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start, protocol: str
) -> None:
    publisher, spool = start(mosquitto.port, protocol=protocol)
    wait_connected(publisher)
    for number in range(300):
        publisher.publish_event(EVENTS, body(number))
    publisher.close(10)
    assert spool.counters().waiting == 0
    assert publisher.state[0] is ConnectionState.CLOSED
    received = subscriber.wait_for(lambda r: len(seqs(r)) == 300 and r[-1].topic == STATUS)
    assert b'"offline"' in received[-1].payload
    assert sum(r.topic == STATUS for r in received) == 2
    disconnect = "Received DISCONNECT from edge-gate"
    assert disconnect in mosquitto.wait_for_log(disconnect)


def test_close_without_a_broker_is_quick_and_keeps_the_events(start: Start) -> None:
    publisher, spool = start(free_port())
    publisher.publish_event(EVENTS, body(1))
    begin_s = time.monotonic()
    publisher.close(20)
    assert time.monotonic() - begin_s < 10
    assert spool.counters().waiting == 1
