"""LatestSlot between real threads."""

from __future__ import annotations

import threading
import time

import pytest

from edge.errors import CameraError
from edge.slot import LatestSlot


def test_slot_keeps_newest_and_counts_drops():
    slot = LatestSlot[int]()
    for item in (1, 2, 3):
        slot.put(item)
    assert slot.take(0) == 3
    assert slot.dropped == 2
    assert slot.take(0) is None
    assert not slot.is_over


def test_take_returns_none_after_the_timeout_and_not_before():
    slot = LatestSlot[int]()
    start_s = time.monotonic()
    assert slot.take(0.05) is None
    assert time.monotonic() - start_s >= 0.05


def test_waiting_consumer_gets_an_item_that_comes_later():
    slot = LatestSlot[int]()
    producer = threading.Timer(0.02, slot.put, [7])
    producer.start()
    assert slot.take(10) == 7
    producer.join()


def test_failure_of_the_producer_is_raised_every_time():
    slot = LatestSlot[int]()
    slot.fail(CameraError("front: gone"))
    assert slot.is_over
    for _ in range(2):
        with pytest.raises(CameraError, match="front: gone"):
            slot.take(0)


def test_item_before_a_failure_is_still_delivered():
    slot = LatestSlot[int]()
    slot.put(1)
    slot.fail(CameraError("front: gone"))
    assert slot.take(0) == 1
    with pytest.raises(CameraError):
        slot.take(0)


def test_hand_over_loses_nothing_between_threads():
    slot = LatestSlot[int]()
    producer = threading.Thread(target=lambda: [slot.hand_over(item) for item in range(1, 201)])
    producer.start()
    assert [slot.take(10) for _ in range(200)] == list(range(1, 201))
    producer.join(10)
    assert slot.dropped == 0


def test_close_wakes_a_waiting_producer():
    slot = LatestSlot[int]()
    slot.put(1)
    producer = threading.Thread(target=slot.hand_over, args=(2,), daemon=True)
    producer.start()
    slot.close()
    producer.join(10)
    assert not producer.is_alive()
    assert slot.dropped == 1


def test_closed_slot_gives_its_last_item_then_none_at_once():
    slot = LatestSlot[int]()
    slot.put(1)
    slot.close()
    slot.put(2)
    start_s = time.monotonic()
    assert not slot.is_over
    assert [slot.take(10), slot.take(10)] == [1, None]
    assert slot.is_over
    assert time.monotonic() - start_s < 5


def test_items_not_taken_by_a_leaving_consumer_are_counted():
    slot = LatestSlot[int]()
    slot.put(1)
    slot.leave()
    slot.put(2)
    slot.hand_over(3)
    assert slot.take(10) is None
    assert slot.is_over
    assert slot.dropped == 3
