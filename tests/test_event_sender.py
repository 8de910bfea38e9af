"""The event sender alone: its window, pauses and retransmissions, on a fake clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import cast

import msgspec
import pytest

from edge.messages import LostRange, Message, SpooledEvent
from edge.publisher import event_sender
from edge.publisher.connection import Connection, ConnectionEndedError
from edge.publisher.event_sender import (
    ACK_TIMEOUT_S,
    LOST_CHECK_S,
    NOT_AUTHORIZED,
    REJECTED_RETRY_S,
    EventSender,
)
from fakes import FakeClock
from publishing import EVENTS, TOPICS, body

MAX_IN_FLIGHT = 3
ROOM = 100
LOST = LostRange(boot_id="boot-1", first_seq=1, last_seq=2, count=2)


class Time:
    """The `time` of the sender's module."""

    def __init__(self) -> None:
        self.monotonic = FakeClock(1000.0)

    def time(self) -> float:
        return 0.0


class Queue:
    """`EventQueue` in memory; a row is an event's seq."""

    def __init__(self) -> None:
        self.waiting: dict[int, SpooledEvent] = {}
        self.losses: dict[int, LostRange] = {}
        self.settled: list[list[int]] = []

    def put(self, topic: str, body: bytes, put_mono_s: float = 1000.0) -> int:
        row = self.last_row() + 1
        self.waiting[row] = SpooledEvent(row, "boot-1", row, topic, body, put_mono_s)
        return row

    def pending(self, after_row: int = 0, limit: int = 100) -> list[SpooledEvent]:
        return [event for row, event in sorted(self.waiting.items()) if row > after_row][:limit]

    def acknowledge(self, rows: Iterable[int]) -> None:
        self.settled.append(list(rows))
        for row in self.settled[-1]:
            del self.waiting[row]

    def lost(self) -> dict[int, LostRange]:
        return dict(self.losses)

    def acknowledge_lost(self, loss_id: int) -> None:
        del self.losses[loss_id]

    def last_row(self) -> int:
        return max([0, *self.waiting, *itertools.chain(*self.settled)])


class Line:
    """The part of a `Connection` that the sender uses; records what is published."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.max_bytes = 10_000
        self.takes = 10_000  # messages until its socket is full

    @property
    def is_congested(self) -> bool:
        return len(self.sent) >= self.takes

    def fits(self, message: Message) -> bool:
        return len(message.payload) <= self.max_bytes

    def publish(self, message: Message) -> int:
        self.sent.append(message)
        return len(self.sent)

    def seqs(self) -> list[int]:
        return [self.field(message, "seq") for message in self.sent if message.topic == EVENTS]

    def historical(self) -> list[bool]:
        return [self.field(message, "historical") for message in self.sent]

    @staticmethod
    def field(message: Message, name: str) -> int:
        return cast("int", msgspec.json.decode(message.payload)[name])


class Bench:
    """A sender with its queue, line and clock."""

    def __init__(self, time: Time) -> None:
        self.clock = time.monotonic
        self.queue = Queue()
        self.line = Line()
        self.sender = EventSender(self.queue, TOPICS.of("lost"), MAX_IN_FLIGHT)

    def put(self, count: int, size: int = 0) -> None:
        for _ in range(count):
            self.queue.put(EVENTS, body(1, size), self.clock.now_s)

    def feed(self, room: int = ROOM) -> bool:
        return self.sender.feed(cast("Connection", self.line), room)

    def answer(self, *message_ids: int, reason: int = 0) -> None:
        for message_id in message_ids:
            assert self.sender.acknowledged(message_id, reason)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A sender on a new connection, without events."""
    time = Time()
    monkeypatch.setattr(event_sender, "time", time)
    made = Bench(time)
    made.sender.begin()
    return made


def test_events_are_sent_in_order_within_the_inflight_limit(bench: Bench) -> None:
    assert not bench.feed()
    bench.put(5)
    assert bench.feed()
    assert bench.line.seqs() == [1, 2, 3]
    assert {message.qos for message in bench.line.sent} == {1}
    bench.feed()
    assert (bench.line.seqs(), bench.sender.in_flight) == ([1, 2, 3], 3)
    bench.answer(2)
    bench.feed()
    assert bench.line.seqs() == [1, 2, 3, 4]
    bench.answer(1, 3, 4)
    assert bench.feed()
    bench.answer(5)
    assert not bench.feed()
    assert bench.line.seqs() == [1, 2, 3, 4, 5]
    assert bench.sender.counts.acknowledged == bench.sender.counts.sent == 5


def test_events_do_not_exceed_the_receive_maximum_of_the_broker(bench: Bench) -> None:
    bench.put(3)
    assert bench.feed(room=0)
    assert bench.line.sent == []
    bench.feed(room=2)
    assert bench.line.seqs() == [1, 2]
    bench.feed(room=2)
    assert bench.line.seqs() == [1, 2]
    bench.answer(1)
    bench.feed(room=2)
    assert bench.line.seqs() == [1, 2, 3]


def test_sending_pauses_while_the_socket_is_full(bench: Bench) -> None:
    bench.put(3)
    bench.line.takes = 1
    assert bench.feed()
    assert bench.line.seqs() == [1]
    bench.line.takes = 9
    bench.feed()
    assert bench.line.seqs() == [1, 2, 3]


def test_more_events_than_one_page_are_each_sent_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sender, "_PAGE", 2)
    bench.put(7)
    for message_id in range(1, 8):
        bench.feed()
        bench.answer(message_id)
        bench.sender.settle()
    assert bench.line.seqs() == [1, 2, 3, 4, 5, 6, 7]
    assert bench.queue.settled == [[1], [2], [3], [4], [5], [6], [7]]
    bench.sender.settle()
    assert len(bench.queue.settled) == 7


def test_events_from_before_the_connection_are_historical_without_latency(bench: Bench) -> None:
    bench.put(2)
    bench.feed()
    bench.sender.begin()  # a new connection; none of the two was acknowledged
    bench.put(1)
    bench.feed()
    assert bench.line.seqs() == [1, 2, 1, 2, 3]
    assert bench.line.historical() == [False, False, True, True, False]
    assert (bench.sender.counts.sent, bench.sender.counts.sent_again) == (5, 2)
    assert not bench.sender.acknowledged(1, 0)  # of the connection before
    bench.clock.advance(0.25)
    bench.answer(3, 4)
    assert bench.sender.latency_ms(0.5) == 0
    bench.answer(5)
    assert bench.sender.latency_ms(0.5) == pytest.approx(250)


def test_forbidden_event_is_retried_after_a_pause_from_the_oldest_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(4)
    bench.feed()
    bench.answer(1, 2, reason=NOT_AUTHORIZED)
    bench.clock.advance(REJECTED_RETRY_S)
    assert bench.feed()  # the third is still in flight
    assert bench.line.seqs() == [1, 2, 3]
    bench.answer(3)
    assert bench.feed()
    assert bench.queue.settled == [[3]]  # acknowledged before the rest is sent again
    assert bench.line.seqs() == [1, 2, 3, 1, 2, 4]
    assert bench.line.historical() == [False, False, False, True, True, False]
    bench.answer(4, reason=NOT_AUTHORIZED)
    bench.answer(5, 6)
    bench.put(1)
    bench.clock.advance(REJECTED_RETRY_S - 0.01)
    assert not bench.feed()
    assert len(bench.line.sent) == 6
    bench.clock.advance(0.01)
    bench.feed()
    assert bench.line.seqs()[6:] == [1, 5]
    assert bench.line.historical()[6:] == [True, True]
    assert bench.sender.counts.rejected == 3
    assert caplog.text.count("mqtt.event_rejected") == 2  # another was accepted between


def test_what_waited_for_the_connection_is_historical_after_a_pause_too(bench: Bench) -> None:
    bench.put(MAX_IN_FLIGHT + 2)
    bench.sender.begin()
    bench.feed()
    bench.answer(1, reason=NOT_AUTHORIZED)
    bench.answer(2, 3)
    bench.clock.advance(REJECTED_RETRY_S)
    bench.feed()
    assert bench.line.seqs() == [1, 2, 3, 1, 4, 5]
    assert all(bench.line.historical())


def test_forbidden_topic_holds_up_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(200):
        bench.queue.put("edge/former/front/events", body(1))
    bench.put(2)
    bench.feed()
    bench.answer(1, 2, 3, reason=NOT_AUTHORIZED)
    bench.feed()
    assert bench.line.seqs() == [201, 202]
    bench.answer(4, 5)
    assert not bench.feed()
    bench.clock.advance(REJECTED_RETRY_S)
    bench.feed()
    assert [bench.line.field(message, "seq") for message in bench.line.sent[5:]] == [1, 2, 3]
    bench.answer(6, 7, 8, reason=NOT_AUTHORIZED)
    bench.put(1)
    bench.feed()
    assert bench.line.seqs() == [201, 202, 203]
    assert caplog.text.count("mqtt.event_rejected") == 1


@pytest.mark.parametrize(("reason", "is_rejected"), [(0, False), (16, False), (128, True)])
def test_reason_codes_from_128_on_are_rejections(
    bench: Bench, reason: int, *, is_rejected: bool
) -> None:
    bench.queue.losses = {7: LOST}
    bench.put(1)
    bench.feed()
    bench.answer(1, 2, reason=reason)
    bench.sender.settle()
    assert bool(bench.queue.waiting) == bool(bench.queue.losses) == is_rejected
    assert bench.sender.counts.rejected == 2 * is_rejected


@pytest.mark.parametrize("reason", [144, 149, 153])
def test_permanently_rejected_event_is_dropped_without_a_pause(
    bench: Bench, caplog: pytest.LogCaptureFixture, reason: int
) -> None:
    bench.put(4)
    bench.feed()
    bench.answer(1, reason=reason)
    bench.feed()
    assert bench.line.seqs() == [1, 2, 3, 4]
    bench.sender.settle()
    assert bench.queue.settled == [[1]]
    assert (bench.sender.counts.rejected, bench.sender.counts.acknowledged) == (1, 0)
    assert f"mqtt.event_dropped boot_id=boot-1 seq=1 reason={reason}" in caplog.text


def test_event_too_large_for_the_broker_is_dropped_and_not_counted_inflight(bench: Bench) -> None:
    bench.line.max_bytes = 2000
    bench.put(1, size=3000)
    bench.put(3)
    bench.feed()
    assert bench.line.seqs() == [2, 3, 4]
    bench.sender.settle()
    assert bench.queue.settled == [[1]]


def test_broker_without_acknowledgements_is_disconnected_after_a_minute(bench: Bench) -> None:
    bench.put(1)
    bench.feed()
    bench.clock.advance(1)
    bench.put(1)
    bench.feed()
    bench.clock.advance(ACK_TIMEOUT_S - 1)
    bench.feed()
    bench.answer(1)
    bench.clock.advance(1)
    bench.feed()  # now the second is the oldest
    bench.clock.advance(0.01)
    with pytest.raises(ConnectionEndedError, match="no acknowledgement in 60 s"):
        bench.feed()


def test_lost_ranges_without_acknowledgements_end_the_connection_too(bench: Bench) -> None:
    bench.queue.losses = dict.fromkeys(range(MAX_IN_FLIGHT), LOST)
    bench.put(1)
    bench.feed()
    bench.clock.advance(ACK_TIMEOUT_S)
    bench.feed()
    assert bench.line.seqs() == []  # no room
    bench.clock.advance(0.01)
    with pytest.raises(ConnectionEndedError, match="no acknowledgement in 60 s"):
        bench.feed()


def test_lost_range_is_sent_once_until_acknowledged(bench: Bench) -> None:
    bench.queue.losses = {7: LOST}
    bench.put(3)
    bench.feed()
    assert bench.line.sent[0] == Message(TOPICS.of("lost"), msgspec.json.encode(LOST), qos=1)
    assert bench.line.seqs() == [1, 2]  # it takes one of three places
    bench.clock.advance(LOST_CHECK_S)
    bench.feed()
    assert len(bench.line.sent) == 3
    bench.answer(1)
    assert bench.queue.losses == {}
    bench.feed()
    assert bench.line.seqs() == [1, 2, 3]
    bench.queue.losses = {8: LOST}
    bench.answer(2, 3, 4)
    bench.clock.advance(LOST_CHECK_S - 0.01)
    assert not bench.feed()
    bench.clock.advance(0.01)
    assert bench.feed()
    assert [message.topic for message in bench.line.sent[4:]] == [TOPICS.of("lost")]


def test_lost_ranges_use_no_more_than_the_room_of_the_broker(bench: Bench) -> None:
    bench.queue.losses = dict.fromkeys(range(1, 6), LOST)
    bench.put(1)
    bench.feed(room=2)
    assert bench.sender.in_flight == 2
    bench.clock.advance(LOST_CHECK_S)
    bench.feed(room=2)
    assert bench.sender.in_flight == 2
    bench.answer(1)
    bench.feed(room=2)  # what had no room goes before events
    bench.answer(2, 3)
    bench.clock.advance(LOST_CHECK_S)
    bench.feed()  # the daemon's own limit is 3
    assert [message.topic for message in bench.line.sent] == [TOPICS.of("lost")] * 5 + [EVENTS]
    bench.answer(4, 5)
    assert bench.queue.losses == {}


def test_a_lost_range_is_sent_again_at_once_on_a_new_connection(bench: Bench) -> None:
    bench.queue.losses = {7: LOST}
    bench.feed()
    bench.sender.begin()
    assert bench.sender.in_flight == 0
    bench.feed()
    assert [message.topic for message in bench.line.sent] == [TOPICS.of("lost")] * 2


def test_forbidden_lost_ranges_are_retried_after_a_pause(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.queue.losses = {1: LOST, 2: LOST}
    bench.feed()
    bench.answer(1, 2, reason=NOT_AUTHORIZED)
    bench.put(1)
    bench.clock.advance(REJECTED_RETRY_S - 0.01)
    bench.feed()
    assert (bench.line.seqs(), len(bench.line.sent)) == ([1], 3)  # events go on
    bench.clock.advance(0.01)
    bench.feed()
    bench.answer(4, reason=NOT_AUTHORIZED)
    bench.answer(5)
    assert bench.queue.losses == {1: LOST}
    bench.clock.advance(REJECTED_RETRY_S)
    bench.feed()
    bench.answer(6, reason=NOT_AUTHORIZED)
    assert bench.sender.counts.rejected == 4
    assert caplog.text.count("topic=edge/gate/lost") == 2  # another was accepted between
