"""Messages that wait for the connection: newest states, and a bounded queue of transient ones."""

from __future__ import annotations

import pytest

from edge.messages import Message
from edge.publisher import outbox
from edge.publisher.outbox import Outbox, Outgoing


def moment(number: int, size: int = 10) -> Outgoing:
    """A transient message; snapshots are retained but may be dropped, too."""
    return Outgoing(Message(f"edge/gate/stats/{number}", b"x" * size, qos=0, retain=True))


def state(topic: str, payload: bytes) -> Outgoing:
    return Outgoing(Message(topic, payload, qos=1, retain=True))


def taken(box: Outbox) -> list[Message]:
    found = []
    while (outgoing := box.take()) is not None:
        found.append(outgoing.message)
    return found


@pytest.fixture
def box() -> Outbox:
    made = Outbox()
    made.open()
    return made


def test_newest_state_of_each_topic_goes_first_and_again_on_every_connection(box: Outbox) -> None:
    one, old, new = state("a/one", b"1"), state("a/two", b"old"), state("a/two", b"new")
    for outgoing in (moment(1), one, old, new):
        box.put(outgoing)
    assert taken(box) == [one.message, new.message, moment(1).message]
    assert taken(box) == []
    box.close()
    box.open()
    assert taken(box) == [one.message, new.message]


def test_picture_takes_the_place_of_the_state_that_cleared_its_topic(box: Outbox) -> None:
    box.put(state("edge/gate/stats/1", b""))
    box.put(moment(1))
    assert taken(box) == [moment(1).message]
    box.close()
    box.open()
    assert taken(box) == []


def test_states_are_sent_again_by_prefix(box: Outbox) -> None:
    for topic in ("edge/gate/info", "edge/gate2/info", "homeassistant/device/gate"):
        box.put(state(topic, b"1"))
    taken(box)
    box.send_again("edge/gate")
    assert [message.topic for message in taken(box)] == ["edge/gate/info"]


def test_transient_messages_are_dropped_without_a_connection(box: Outbox) -> None:
    box.put(moment(1))
    box.close()
    box.put(moment(2))
    assert box.dropped == 2
    box.open()
    assert taken(box) == []
    fresh = Outbox()
    fresh.put(moment(1))
    assert (fresh.dropped, fresh.take()) == (1, None)


def test_messages_that_may_wait_survive_until_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MAX_MESSAGES", 3)
    box = Outbox()
    records = [Outgoing(Message("edge/gate/log", b"%d" % n), waits=True) for n in range(5)]
    for record in records[:4]:
        box.put(record)
    box.open()
    box.put(moment(1))
    box.close()
    box.put(records[4])
    assert box.dropped == 2 + 1  # the oldest two, and what may not wait
    box.open()
    assert taken(box) == [record.message for record in records[2:]]


@pytest.mark.parametrize(("bound", "value"), [("MAX_MESSAGES", 3), ("MAX_BYTES", 30)])
def test_oldest_transient_messages_make_room(
    box: Outbox, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(outbox, bound, value)
    for number in range(5):
        box.put(moment(number))
    assert box.dropped == 2
    assert taken(box) == [moment(number).message for number in (2, 3, 4)]


def test_message_that_is_not_retained_is_refused_as_state(box: Outbox) -> None:
    response = Outgoing(Message("edge/gate/response/pause", b"1", qos=1), b"correlation")
    for _ in range(2):
        box.put(response)
    assert [box.take(), box.take(), box.take()] == [response, response, None]
    box.close()
    box.open()
    assert box.take() is None


def test_messages_dropped_at_disconnection_free_their_room(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_BYTES", 30)
    for number in range(3):
        box.put(moment(number))
    box.close()
    box.open()
    for number in range(3):
        box.put(moment(number))
    assert (box.dropped, len(taken(box))) == (3, 3)


def test_taken_messages_free_their_room(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_BYTES", 30)
    for number in range(9):
        box.put(moment(number))
        assert taken(box) == [moment(number).message]
    for number in range(3):
        box.put(moment(number))
    assert box.dropped == 0
