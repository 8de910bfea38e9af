"""The publisher on a real mosquitto: outages, duplicates, will, logins, TLS, commands."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config import MqttConfig, SpoolConfig
from edge.errors import ConfigError
from edge.messages import (
    BoxBody,
    Event,
    EventBody,
    LostRange,
    Message,
    Response,
    Status,
    Topics,
    encode,
)
from edge.publisher import ConnectionState, Publisher, event_sender, options
from edge.publisher.backoff import STABLE_S, Backoff
from edge.publisher.outbox import MAX_MESSAGES
from edge.spool import Spool
from mosquitto import (
    LOOPBACK,
    PERSISTENT,
    Certificates,
    Login,
    Mosquitto,
    Received,
    Subscriber,
    free_port,
    make_certificates,
)
from relay import Relay

TOPICS = Topics("edge", "gate")
EVENTS = TOPICS.camera("front", "events")
STATUS = TOPICS.of("status")
DEFAULT_SPOOL = SpoolConfig()
CHILD = Path(__file__).with_name("publisher_child.py")
both_protocols = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


class Start(Protocol):
    """Starts a publisher on a spool of its own; both end with the test."""

    def __call__(
        self, port: int, *, spool: SpoolConfig = ..., **settings: Any
    ) -> tuple[Publisher, Spool]: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(
            port: int, *, spool: SpoolConfig = DEFAULT_SPOOL, **settings: Any
        ) -> tuple[Publisher, Spool]:
            path = tmp_path / "spool.sqlite"
            queue = stack.enter_context(Spool(path, spool, boot_id="boot-1"))
            birth = Status(status="online", boot_id="boot-1", version="1")
            settings = {"host": LOOPBACK, "retry_min_s": 0.05, "retry_max_s": 0.2, **settings}
            config = MqttConfig(port=port, **settings)
            return stack.enter_context(Publisher(config, TOPICS, queue, birth)), queue

        yield start


def body(number: int, size: int = 0) -> bytes:
    box = BoxBody(x=0.1, y=0.2, w=0.3, h=0.4)
    return encode(
        EventBody(
            id=f"gate-{number}", kind="new", camera="front", frame_id=number, label="person",
            score=0.9, best_score=0.9, box=box, box_px=box, frame_size=(640, 480), colors=(),
            zones=("x" * size,), captured_utc="2026-11-22T12:00:00.000Z", clock_synced=None,
            duration_s=1.0, latency_ms=12.5, stages_ms={"detector": 9.0},
        )
    )  # fmt: skip


def events(received: list[Received]) -> list[Event]:
    return [msgspec.json.decode(r.payload, type=Event) for r in received if r.topic == EVENTS]


def seqs(received: list[Received]) -> list[int]:
    return [event.seq for event in events(received)]


def wait_until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Poll a state that has no event to wait for; fail when it does not come."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("the awaited state did not come")


def wait_connected(publisher: Publisher) -> None:
    wait_until(lambda: publisher.state[0] is ConnectionState.CONNECTED)


def wait_acknowledged(spool: Spool, timeout_s: float = 15) -> None:
    wait_until(lambda: spool.counters().waiting == 0, timeout_s)


# --- events -------------------------------------------------------------------------------------


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
    assert publisher.counters()["acknowledged"] == 200


def test_latency_to_the_acknowledgement_is_measured(mosquitto: Mosquitto, start: Start) -> None:
    publisher, spool = start(mosquitto.port)
    wait_connected(publisher)
    before_s = time.monotonic()
    for number in range(10):
        publisher.publish_event(EVENTS, body(number))
    wait_acknowledged(spool)
    deliveries = publisher.take_deliveries()
    assert [d.seq for d in deliveries] == list(range(1, 11))
    for d in deliveries:
        assert before_s <= d.put_mono_s <= d.sent_mono_s <= d.acknowledged_mono_s
    p50, p95 = (publisher.counters()[f"ack_ms_p{q}"] for q in (50, 95))
    assert isinstance(p50, float)
    assert isinstance(p95, float)
    assert 0 < p50 <= p95 < 5000
    assert publisher.take_deliveries() == []


def test_event_that_waited_for_the_broker_says_so(tmp_path: Path, start: Start) -> None:
    broker = Mosquitto(tmp_path)
    publisher, _ = start(broker.port)
    publisher.publish_event(EVENTS, body(1))
    with broker, Subscriber(broker.port) as subscriber:
        wait_connected(publisher)
        publisher.publish_event(EVENTS, body(2))
        # The first one may have arrived before the subscriber did.
        last = events(subscriber.wait_for(lambda r: seqs(r)[-1:] == [2]))[-1]
        assert not last.historical
        first = publisher.take_deliveries()[0]
        assert (first.seq, first.historical) == (1, True)


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


def test_three_broker_restarts_lose_nothing_and_number_nothing_anew(
    mosquitto_program: str, tmp_path: Path, start: Start
) -> None:
    broker = Mosquitto(tmp_path, settings=f"{PERSISTENT}{tmp_path}/")
    chance = random.Random(3)
    number = 0
    with broker, Subscriber(broker.port) as subscriber:
        publisher, spool = start(broker.port)
        wait_connected(publisher)
        for _ in range(3):
            for phase in (lambda: None, broker.stop, broker.start):
                phase()
                for _ in range(chance.randint(20, 60)):
                    number += 1
                    assert publisher.publish_event(EVENTS, body(number)) == number
            subscriber.wait_subscribed()
        wait_acknowledged(spool)
        received = events(subscriber.wait_for(lambda r: len(set(seqs(r))) == number))
    assert {e.seq for e in received} == set(range(1, number + 1))
    assert_same_content(received)
    assert {e.id for e in received} == {f"gate-{n}" for n in range(1, number + 1)}
    assert int(publisher.counters()["connects"]) >= 4
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
        assert publisher.counters()["in_flight"] == 5
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
    publisher, spool = start(broker.port, spool=SpoolConfig(max_bytes=65_536))
    for number in range(400):
        publisher.publish_event(EVENTS, body(number))
        if number % 40 == 0:
            assert spool.flush(10)
    assert spool.flush(10)
    lost = spool.counters().lost
    assert lost > 0
    with broker, Subscriber(broker.port, TOPICS.of("lost")) as subscriber:
        told = subscriber.wait_for_topic(TOPICS.of("lost"))
        assert msgspec.json.decode(told[0].payload, type=LostRange) == LostRange(
            boot_id="boot-1", first_seq=1, last_seq=lost, count=lost
        )
        wait_until(lambda: not spool.lost())
        wait_acknowledged(spool)


def test_kill_9_in_mid_run_loses_nothing_that_was_accepted(
    mosquitto_program: str, tmp_path: Path
) -> None:
    """Three daemons are killed while the broker comes and goes; the fourth delivers the rest."""
    broker = Mosquitto(tmp_path, settings=f"{PERSISTENT}{tmp_path}/")
    accepted: set[tuple[str, int]] = set()
    with broker, Subscriber(broker.port, EVENTS) as subscriber:
        for boot in range(4):
            child = start_child(broker.port, "auto", tmp_path, f"boot-{boot}")
            assert child.stdout is not None
            told = [child.stdout.readline() for _ in range(30)]
            broker.stop()
            told += [child.stdout.readline() for _ in range(30)]
            broker.start()
            child.send_signal(signal.SIGKILL)
            told += child.stdout.readlines()
            accepted |= {(f"boot-{boot}", int(line)) for line in told if line.endswith("\n")}
            child.wait()
            child.stdout.close()
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


def start_child(port: int, protocol: str, folder: Path, boot_id: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, CHILD, str(port), protocol, folder / "spool.sqlite", boot_id],
        env={**os.environ, "PYTHONPATH": str(CHILD.parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_event_the_broker_forbids_waits_until_it_is_allowed(
    mosquitto_program: str,
    tmp_path: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(event_sender, "REJECTED_RETRY_S", 0.2)
    rights = tmp_path / "rights"
    rights.write_text("topic read #\ntopic write edge/gate/status\n")
    rights.chmod(0o600)
    broker = Mosquitto(tmp_path, settings=f"acl_file {rights}")
    with broker, Subscriber(broker.port) as subscriber:
        publisher, spool = start(broker.port, protocol="5")
        for number in range(3):
            publisher.publish_event(EVENTS, body(number))
        wait_until(lambda: int(publisher.counters()["rejected"]) >= 4)
        assert spool.counters().waiting == 3
        rights.write_text("topic readwrite #\n")
        broker.reload()
        wait_acknowledged(spool)
        received = events(subscriber.wait_for(lambda r: len(set(seqs(r))) == 3))
    assert all(e.historical for e in received)
    assert "mqtt.event_rejected topic=edge/gate/front/events reason=135" in caplog.text


def test_event_larger_than_the_broker_takes_does_not_block_the_others(
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


# --- other messages -----------------------------------------------------------------------------


def test_messages_of_the_moment_are_dropped_and_counted_without_a_connection(
    tmp_path: Path, start: Start
) -> None:
    broker = Mosquitto(tmp_path)
    publisher, _ = start(broker.port)
    for _ in range(7):
        publisher.publish(Message(TOPICS.of("stats"), b"old"))
    assert publisher.counters()["dropped"] == 7
    with broker, Subscriber(broker.port) as subscriber:
        wait_connected(publisher)
        publisher.publish(Message(TOPICS.of("stats"), b"new"))
        assert [r.payload for r in subscriber.wait_for_topic(TOPICS.of("stats"))] == [b"new"]


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
    frozen_s = time.monotonic()
    slowest_s = 0.0
    for number in range(1, 301):
        begin_s = time.monotonic()
        publisher.publish_event(EVENTS, body(number, 1000))
        publisher.publish(Message(TOPICS.of("stats"), bytes(100_000)))
        slowest_s = max(slowest_s, time.monotonic() - begin_s)
    assert slowest_s < 0.5
    wait_until(lambda: publisher.state[0] is ConnectionState.LOST)
    assert time.monotonic() - frozen_s < 2 * 2 + 2
    dropped = publisher.counters()["dropped"]
    assert isinstance(dropped, int)
    assert dropped > 300 - MAX_MESSAGES
    mosquitto.thaw()
    subscriber.wait_for(lambda r: len(set(seqs(r))) == 300)
    wait_acknowledged(spool)
    assert caplog.text.count("mqtt.lost") <= 2


@both_protocols
def test_death_by_kill_9_is_told_by_the_will(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path, protocol: str
) -> None:
    child = start_child(mosquitto.port, protocol, tmp_path, "boot-7")
    subscriber.wait_for_topic(STATUS)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
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
def test_close_sends_what_is_left_and_says_offline_itself(
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
    publisher.close(5)
    assert time.monotonic() - begin_s < 2
    assert spool.counters().waiting == 1


# --- commands -----------------------------------------------------------------------------------


def test_command_is_taken_and_answered(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    publisher, _ = start(mosquitto.port)
    mosquitto.wait_for_log("edge/gate/command/+ (QoS 1)")
    subscriber.publish(TOPICS.command("pause"), b'{"for_s":5}')
    wait_until(lambda: publisher.counters()["commands"] == 1)
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
    wait_until(lambda: publisher.counters()["commands"] == 1)
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
    subscriber.publish(TOPICS.command("pause"), bytes(20_000))
    oversized = subscriber.wait_for_topic(response, 2)[1]
    assert "over 16384 bytes" in json.loads(oversized.payload)["error"]
    for _ in range(40):
        subscriber.publish(TOPICS.command("pause"), b"{}")
    surplus = subscriber.wait_for_topic(response, 2 + 8)[2:]
    assert all("32 commands wait already" in json.loads(r.payload)["error"] for r in surplus)
    assert publisher.counters()["commands"] == 32
    assert publisher.counters()["commands_refused"] == 10


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


# --- protocol, login, TLS -----------------------------------------------------------------------


def test_broker_that_closes_on_mqtt5_gets_the_older_protocol_at_once(
    mosquitto: Mosquitto, subscriber: Subscriber, start: Start
) -> None:
    with Relay(mosquitto.port, refuses_mqtt5=True) as relay:
        publisher, spool = start(relay.port, retry_min_s=30, retry_max_s=60)
        wait_connected(publisher)  # no back-off in between
        assert publisher.state[1] == "MQTT 3.1.1"
        assert relay.accepted == 2
        publisher.publish_event(EVENTS, body(1))
        assert seqs(subscriber.wait_for_topic(EVENTS)) == [1]
        wait_acknowledged(spool)


def test_fixed_protocol_is_not_changed(mosquitto: Mosquitto, start: Start) -> None:
    with Relay(mosquitto.port, refuses_mqtt5=True) as relay:
        publisher, _ = start(relay.port, protocol="5")
        wait_until(lambda: relay.accepted >= 4)
        assert publisher.state[0] is ConnectionState.LOST
        assert "closed before its answer" in publisher.state[1]
        publisher.close()


@both_protocols
def test_refused_login_is_a_state_of_its_own_and_mends_without_a_restart(
    mosquitto_program: str,
    tmp_path: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    login = Login("gate", "right")
    password = tmp_path / "password"
    password.write_text("wrong\n")
    with Mosquitto(tmp_path, login=login) as broker:
        begin_s = time.monotonic()
        publisher, spool = start(
            broker.port,
            protocol=protocol,
            username="gate",
            password_file=str(password),
            retry_max_s=0.6,
        )
        publisher.publish_event(EVENTS, body(1))
        wait_until(lambda: int(publisher.counters()["refusals"]) >= 3)
        assert time.monotonic() - begin_s >= 2 * 0.6 / 2  # two waits of half retry_max_s at least
        assert publisher.state[0] is ConnectionState.REFUSED
        assert publisher.state[1] in ("not authorized", "bad user name or password")
        assert publisher.counters()["connects"] == 0
        assert caplog.text.count("mqtt.refused") == 1
        assert "wrong" not in caplog.text
        password.write_text("right\n")
        wait_acknowledged(spool)
        assert publisher.state[0] is ConnectionState.CONNECTED
        assert publisher.counters()["connects"] == 1
    assert "right" not in caplog.text


def test_refused_login_is_tried_again_slowly() -> None:
    backoff = Backoff(1, 60)
    assert all(30 <= backoff.refused() <= 60 for _ in range(100))


def test_delays_double_with_jitter_and_begin_anew_after_a_stable_connection() -> None:
    for expected_s in (1, 2, 4, 8, 8, 8):
        samples = []
        for _ in range(50):
            fresh = Backoff(1, 8)
            for _ in range({1: 0, 2: 1, 4: 2, 8: 3}[expected_s]):
                fresh.failed()
            samples.append(fresh.failed())
        assert expected_s / 2 <= min(samples) < max(samples) <= expected_s
    worn = Backoff(1, 1000)
    for _ in range(9):
        worn.failed()
    assert worn.failed(held_s=STABLE_S - 1) > 100
    assert worn.failed(held_s=STABLE_S) <= 1


def test_unreachable_broker_is_told_once(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    publisher, _ = start(port)
    wait_until(lambda: publisher.state[0] is ConnectionState.LOST)
    assert publisher.state[1] == f"{LOOPBACK}:{port}: Connection refused"
    with socket.create_server((LOOPBACK, port)) as listener:  # six further attempts
        for _ in range(6):
            connection, _ = listener.accept()
            connection.close()
        publisher.close()
    assert caplog.text.count("Connection refused") == 1


@pytest.mark.parametrize("host", ["no..host", "x" * 64 + ".example"])
def test_impossible_host_name_is_refused(start: Start, host: str) -> None:
    publisher, _ = start(1883, host=host)
    wait_until(lambda: publisher.state[0] is ConnectionState.REFUSED)
    assert publisher.state[1].startswith(f"mqtt.host {host}:1883: ")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_with_a_client_certificate(
    mosquitto_program: str, tmp_path: Path, start: Start, certificates: Certificates
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    broker = Mosquitto(tmp_path, certificates=certificates)
    with broker, Subscriber(broker.port, tls=context) as subscriber:
        publisher, spool = start(
            broker.port, host="localhost", ca_file=str(certificates.ca),
            cert_file=str(certificates.client_cert), key_file=str(certificates.client_key),
        )  # fmt: skip
        wait_connected(publisher)
        for number in range(200):
            publisher.publish_event(EVENTS, body(number, 2000))
        assert seqs(subscriber.wait_for_topic(EVENTS, 200)) == list(range(1, 201))
        wait_acknowledged(spool)


@pytest.mark.parametrize("fault", ["other authority", "other name"])
def test_certificate_that_does_not_fit_is_refused(
    mosquitto_program: str, tmp_path: Path, start: Start, certificates: Certificates, fault: str
) -> None:
    other = make_certificates(tmp_path / "other", names="DNS:elsewhere.example")
    served, trusted = (certificates, other) if fault == "other authority" else (other, other)
    with Mosquitto(tmp_path, certificates=served) as broker:
        publisher, _ = start(broker.port, host="localhost", ca_file=str(trusted.ca))
        wait_until(lambda: publisher.state[0] is ConnectionState.REFUSED)
        assert publisher.state[1].startswith(f"certificate of localhost:{broker.port}: ")
        publisher.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ca_file": "/nowhere/ca.pem"}, r"mqtt\.ca_file /nowhere/ca\.pem: No such file"),
        ({"ca_file": __file__}, r"mqtt\.ca_file .*test_publisher\.py: "),
        ({"cert_file": "/nowhere/c.pem"}, r"mqtt\.cert_file /nowhere/c\.pem with key_file None: "),
        ({"password_file": "/nowhere/p", "username": "u"}, r"mqtt\.password_file /nowhere/p: No"),
        ({"password_file": "/dev/null", "username": "u"}, r"/dev/null: its first line is empty"),
        ({"password_file": "/dev/null"}, r"without mqtt\.username"),
    ],
)
def test_wrong_file_in_the_mqtt_section_is_one_clear_error(
    start: Start, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        start(1883, **settings)
    assert raised.value.exit_code == 78
    assert "\n" not in str(raised.value)


def test_password_comes_from_file_then_variable_then_credential(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from file\r\nsecond line\n")
    (tmp_path / "mqtt-password").write_text("from credential")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with_file = MqttConfig(username="u", password_file=str(tmp_path / "file"))
    without = MqttConfig(username="u")
    assert options.read_password(without, {}) is None
    assert options.read_password(without, environment) == "from credential"
    environment["EDGE_MQTT_PASSWORD"] = "from variable"
    assert options.read_password(without, environment) == "from variable"
    assert options.read_password(with_file, environment) == "from file"
