"""The spool's order, numbers, bounds and promises on a real file."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from edge.config import SpoolConfig
from edge.messages import LostRange, SpooledEvent
from edge.spool import spool as spool_module
from edge.spool.event_file import Change, EventFile, add_losses
from edge.spool.spool import HOLD_EVENTS, MAX_BODY_BYTES, MEMORY_BYTES, Spool
from fakes import FakeClock
from spooling import LAZY, PROMPT, SMALLEST, TOPIC, body, open_spool, seqs
from waiting import wait_until


def test_events_are_numbered_from_one_and_come_back_in_order(tmp_path: Path) -> None:
    with open_spool(tmp_path) as spool:
        assert [spool.put(TOPIC, body(n)) for n in range(5)] == [1, 2, 3, 4, 5]
        events = spool.pending()
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.body for event in events] == [body(n) for n in range(5)]
    assert {(event.topic, event.boot_id) for event in events} == {(TOPIC, "boot-1")}


def test_pending_pages_through_memory_and_disk_alike(tmp_path: Path) -> None:
    with open_spool(tmp_path, LAZY) as spool:
        for n in range(10):
            spool.put(TOPIC, body(n))
        assert spool.flush(10)
        for n in range(10, 20):
            spool.put(TOPIC, body(n))
        first = spool.pending(limit=7)
        second = spool.pending(first[-1].row, limit=7)
        third = spool.pending(second[-1].row, limit=7)
    assert [e.seq for e in first + second + third] == list(range(1, 21))


def test_events_of_an_earlier_boot_come_first_with_their_own_numbers(tmp_path: Path) -> None:
    with open_spool(tmp_path) as spool:
        spool.put(TOPIC, body(1))
        spool.put(TOPIC, body(2))
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert spool.counters().waiting == 2
        assert spool.counters().used_bytes > 0
        assert spool.put(TOPIC, body(3)) == 1
        events = spool.pending()
    assert [(e.boot_id, e.seq) for e in events] == [("boot-1", 1), ("boot-1", 2), ("boot-2", 1)]
    assert events[0].row < events[1].row < events[2].row


def test_acknowledged_events_do_not_come_back(tmp_path: Path) -> None:
    with open_spool(tmp_path, LAZY) as spool:
        for n in range(6):
            spool.put(TOPIC, body(n))
        assert spool.flush(10)
        spool.put(TOPIC, body(6))
        rows = {event.seq: event.row for event in spool.pending()}
        spool.acknowledge([rows[2], rows[5], rows[7], 10_000])
        assert seqs(spool) == [1, 3, 4, 6]
    with open_spool(tmp_path) as spool:
        assert seqs(spool) == [1, 3, 4, 6]


def test_acknowledged_events_are_deleted_without_a_further_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "DELETE_AFTER_S", 0.02)
    with open_spool(tmp_path, LAZY) as spool:
        spool.put(TOPIC, body(1))
        assert spool.flush(10)
        time.sleep(0.05)  # until the writer waits
        before = spool.counters().written_bytes
        spool.acknowledge([event.row for event in spool.pending()])
        wait_until(lambda: spool.counters().written_bytes > before)
        assert spool.counters().waiting == 0


def test_event_acknowledged_before_its_commit_never_touches_the_disk(tmp_path: Path) -> None:
    with open_spool(tmp_path, LAZY) as spool:
        for n in range(20):
            spool.put(TOPIC, body(n))
            spool.acknowledge(event.row for event in spool.pending())
        assert spool.flush(10)
        counters = spool.counters()
    assert (counters.put, counters.acknowledged, counters.waiting) == (20, 20, 0)
    assert counters.written_bytes == 0


def test_event_is_on_disk_in_time_though_others_follow(tmp_path: Path) -> None:
    with open_spool(tmp_path, SpoolConfig(commit_interval_s=0.5)) as spool:
        for n in range(1, 100):
            spool.put(TOPIC, body(n))
            time.sleep(0.2)
            if spool.counters().waiting_in_memory < n:
                break
        else:
            pytest.fail("the events put off each other's commit")


def test_memory_is_free_again_once_events_are_delivered_or_on_disk(tmp_path: Path) -> None:
    large = body(1, MAX_BODY_BYTES - 100)
    with open_spool(tmp_path, LAZY) as spool:
        for _ in range(MEMORY_BYTES // MAX_BODY_BYTES + 2):
            spool.put(TOPIC, large)
            spool.acknowledge([spool.last_row()])
        for _ in range(MEMORY_BYTES // MAX_BODY_BYTES + 2):
            spool.put(TOPIC, large)
            wait_until(lambda: spool.counters().waiting_in_memory < 5)
        assert spool.counters().lost == 0


def test_flush_commits(tmp_path: Path) -> None:
    with open_spool(tmp_path, LAZY) as spool:
        spool.put(TOPIC, body(1))
        assert spool.counters().waiting_in_memory == 1
        assert spool.flush(10)
        assert spool.counters().waiting_in_memory == 0
        for end in ("", "-wal"):  # what kill -9 would leave
            shutil.copy(tmp_path / f"spool.sqlite{end}", tmp_path / f"copy.sqlite{end}")
    with Spool(tmp_path / "copy.sqlite", PROMPT, boot_id="boot-2") as copy:
        assert seqs(copy) == [1]


def test_full_spool_drops_the_oldest_and_names_the_range(tmp_path: Path) -> None:
    config = SpoolConfig(max_bytes=SMALLEST, commit_interval_s=60)
    with open_spool(tmp_path, config) as spool:
        for start in range(0, 300, 30):
            for n in range(start, start + 30):
                spool.put(TOPIC, body(n))
            assert spool.flush(10)
        kept = seqs(spool)
        lost = list(spool.lost().values())
        assert spool.counters().used_bytes <= SMALLEST
        assert spool.counters().lost == kept[0] - 1
    assert kept == list(range(kept[0], 301))
    assert len(kept) > 100
    assert lost == [
        LostRange(boot_id="boot-1", first_seq=1, last_seq=kept[0] - 1, count=kept[0] - 1)
    ]
    assert (tmp_path / "spool.sqlite").stat().st_size <= SMALLEST + 4096 * 8


def test_lost_range_is_repeated_after_a_restart_until_acknowledged(tmp_path: Path) -> None:
    config = SpoolConfig(max_bytes=SMALLEST, commit_interval_s=60)
    with open_spool(tmp_path, config) as spool:
        for n in range(300):
            spool.put(TOPIC, body(n))
        assert spool.flush(10)
        ranges = spool.lost()
        assert ranges
    with open_spool(tmp_path, config, boot_id="boot-2") as spool:
        assert spool.lost() == ranges
        for loss_id in ranges:
            spool.acknowledge_lost(loss_id)
        assert spool.lost() == {}
    with open_spool(tmp_path, config, boot_id="boot-3") as spool:
        assert spool.lost() == {}


def test_range_that_was_handed_out_does_not_grow() -> None:
    losses: dict[int, LostRange] = {}
    add_losses(losses, [("a", 1), ("a", 2)], keep=0)
    add_losses(losses, [("a", 3), ("b", 1)], keep=1)
    add_losses(losses, [("b", 2)], keep=1)
    assert losses == {
        1: LostRange(boot_id="a", first_seq=1, last_seq=2, count=2),
        2: LostRange(boot_id="a", first_seq=3, last_seq=3, count=1),
        3: LostRange(boot_id="b", first_seq=1, last_seq=2, count=2),
    }


def test_too_large_event_is_refused_by_name(tmp_path: Path) -> None:
    with open_spool(tmp_path) as spool:
        with pytest.raises(ValueError, match=r"event of 262145 bytes"):
            spool.put(TOPIC, b"x" * (MAX_BODY_BYTES + 1))
        assert spool.put(TOPIC, b"{}") == 1


def test_exhausted_write_allowance_makes_batches_larger(tmp_path: Path) -> None:
    now_s = [1_000_000.0]
    config = SpoolConfig(max_write_bytes_per_day=1_048_576, commit_interval_s=0)
    with Spool(tmp_path / "s", config, boot_id="b", wall=lambda: now_s[0]) as spool:
        while spool.counters().written_bytes < 1_048_576:
            spool.put(TOPIC, body(0, 20_000))
            assert spool.flush(10)
        written = spool.counters().written_bytes
        for n in range(HOLD_EVENTS - 1):
            spool.put(TOPIC, body(n))
        assert spool.counters().written_bytes == written
        assert spool.counters().waiting_in_memory == HOLD_EVENTS - 1
        spool.put(TOPIC, body(0))  # as many as may wait in memory: written in debt
        wait_until(lambda: spool.counters().waiting_in_memory == 0)
        spool.put(TOPIC, body(1))
        assert spool.counters().waiting_in_memory == 1
        now_s[0] += 2 * 86_400  # two days later the allowance is whole again
        spool.put(TOPIC, body(2))
        wait_until(lambda: spool.counters().waiting_in_memory == 0)


def test_write_allowance_grows_evenly_and_survives_restarts(tmp_path: Path) -> None:
    day = 86_400  # bytes as seconds: one for each
    wall = FakeClock(1_000_000.0)
    config = SpoolConfig(max_bytes=10 * day, max_write_bytes_per_day=day)
    file = EventFile(tmp_path / "s", config, wall=wall)
    assert file.allowance_bytes() == day
    events = tuple(SpooledEvent(n, "b", n, TOPIC, body(n, 20_000), 0.0) for n in range(1, 4))
    file.commit(Change(events, (), {}), 0)
    assert file.allowance_bytes() == day - file.written_bytes
    file.close()
    left = day - file.written_bytes  # with what closing wrote: in debt
    assert -day < left < 0
    file = EventFile(tmp_path / "s", config, wall=wall)
    assert file.allowance_bytes() == left
    wall.advance(100)
    assert file.allowance_bytes() == left + 100
    wall.advance(-1000)  # a clock that is set back changes nothing
    assert file.allowance_bytes() == left + 100
    wall.advance(2 * day)
    assert file.allowance_bytes() == day
    file.close()
