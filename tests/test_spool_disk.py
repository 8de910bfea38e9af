"""Faults of the spool's disk and process: damage, full disk, permissions, kill -9."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from disk import full_disk
from edge.config import SpoolConfig
from edge.errors import PublishError
from edge.messages import LostRange
from edge.spool import Spool
from edge.spool import spool as spool_module
from edge.spool.event_file import EventFile
from edge.spool.spool import HOLD_EVENTS
from spooling import LAZY, PROMPT, TOPIC, body, open_spool, seqs
from waiting import wait_until


def test_second_daemon_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(PublishError, match=r"spool\.sqlite: .*another daemon uses it")
    with open_spool(tmp_path), refused:
        open_spool(tmp_path).__enter__()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle", "other schema", "other file"])
def test_damaged_file_is_moved_aside_and_work_continues(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.sqlite"
    with open_spool(tmp_path) as spool:
        for n in range(200):
            spool.put(TOPIC, body(n))
    spoil(path, damage)
    (tmp_path / "spool.sqlite.corrupt-20200101T000000000000Z").touch()  # an earlier one goes
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert seqs(spool) == []
        spool.put(TOPIC, body(1))
        assert spool.flush(10)
    aside = list(tmp_path.glob("spool.sqlite.corrupt-*Z"))
    assert len(aside) == 1
    assert "spool.damaged" in caplog.text
    assert str(aside[0]) in caplog.text


def test_file_damaged_while_it_is_open_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for pause in ("RETRY_S", "READ_RETRY_S"):
        monkeypatch.setattr(spool_module, pause, 0.0)
    path = tmp_path / "spool.sqlite"
    with open_spool(tmp_path) as spool:
        for n in range(2000):  # more than SQLite keeps in memory
            spool.put(TOPIC, body(n, 1000))
        assert spool.flush(20)
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
        wait_until(lambda: not spool.pending() and spool.counters().waiting == 0)
        spool.put(TOPIC, body(2000))
        assert spool.flush(10)
        wait_until(lambda: not spool.counters().failure)
        assert seqs(spool) == [2001]
    assert len(list(tmp_path.glob("spool.sqlite.corrupt-*Z"))) == 1
    assert caplog.text.count("spool.damaged") == 1
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert seqs(spool) == [2001]


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(random.Random(1).randbytes(len(content)))
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "middle":
        content[8192 : len(content) // 2] = bytes(len(content) // 2 - 8192)
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as other:
            other.execute(
                "PRAGMA user_version = 99" if damage == "other schema" else "DROP TABLE event"
            )
        other.close()


@pytest.mark.parametrize(
    "spoiling",
    [
        "UPDATE event SET body = CAST('{\"n\":' AS BLOB) WHERE row = 2",
        "UPDATE event SET topic = 'edge/#' WHERE row = 2",
        "UPDATE event SET boot_id = '' WHERE row = 2",
        "ALTER TABLE lost DROP COLUMN count",
        "DELETE FROM meter",
    ],
)
def test_content_that_no_daemon_wrote_is_moved_aside(tmp_path: Path, spoiling: str) -> None:
    with open_spool(tmp_path) as spool:
        for n in range(3):
            spool.put(TOPIC, body(n))
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.sqlite")) as other, other:
        other.execute(spoiling)
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert seqs(spool) == []
    assert len(list(tmp_path.glob("spool.sqlite.corrupt-*Z"))) == 1


def test_truncated_wal_loses_only_unsynced_events(tmp_path: Path) -> None:
    with open_spool(tmp_path, LAZY) as spool:
        for n in range(20):
            spool.put(TOPIC, body(n))
        assert spool.flush(10)
        for end in ("", "-wal"):
            shutil.copy(tmp_path / f"spool.sqlite{end}", tmp_path / f"copy.sqlite{end}")
    with (tmp_path / "copy.sqlite-wal").open("ab") as log:
        log.write(b"\x01" * 5000)
    with Spool(tmp_path / "copy.sqlite", PROMPT, boot_id="boot-2") as copy:
        assert seqs(copy) == list(range(1, 21))


def test_unwritable_disk_at_start_is_one_clear_error(tmp_path: Path) -> None:
    with (
        full_disk(2000),
        pytest.raises(PublishError, match=r"spool\.sqlite: .*set another state_dir"),
    ):
        open_spool(tmp_path).__enter__()


def test_state_dir_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(PublishError, match=r"cannot create its folder: .*set state_dir"):
        open_spool(tmp_path / "state").__enter__()


def kernel_written_bytes() -> int:
    """What this process has made the kernel write to disks so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def test_one_event_a_second_stays_within_the_daily_allowance(tmp_path: Path) -> None:
    """The worst case: broker away and a commit per event; the kernel counts the bytes written."""
    config, count = SpoolConfig(commit_interval_s=0), 300
    with open_spool(tmp_path, config) as spool:
        spool.put(TOPIC, body(0, 500))
        assert spool.flush(10)
        before, kernel_before = spool.counters().written_bytes, kernel_written_bytes()
        for n in range(1, count + 1):
            spool.put(TOPIC, body(n, 500))
            assert spool.flush(10)
        estimate = (spool.counters().written_bytes - before) / count
        counted = (kernel_written_bytes() - kernel_before) / count
    assert estimate * 86_400 <= SpoolConfig().max_write_bytes_per_day
    if counted:  # a file system in memory writes nothing
        assert counted * 86_400 <= SpoolConfig().max_write_bytes_per_day
        assert 0.5 < estimate / counted < 2


@pytest.mark.parametrize("existed", [True, False])
def test_read_only_disk_is_one_clear_error(small_disk: Path, *, existed: bool) -> None:
    if existed:
        with open_spool(small_disk) as spool:
            spool.put(TOPIC, body(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(PublishError, match=r"spool\.sqlite: .*make its folder writable"):
        open_spool(small_disk).__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PublishError, match=r"spool\.sqlite: .*make its folder writable"):
        open_spool(tmp_path).__enter__()


def test_disk_that_fills_up_keeps_events_in_memory_and_recovers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    with open_spool(tmp_path) as spool:
        spool.put(TOPIC, body(1))
        assert spool.flush(10)
        with full_disk(4096):
            for n in range(2, 12):
                spool.put(TOPIC, body(n))
            wait_until(lambda: spool.counters().write_failures > 3)
            assert spool.counters().failure
            assert not spool.flush(0.05)
            assert seqs(spool)[-10:] == list(range(2, 12))
        assert spool.flush(10)
        assert seqs(spool) == list(range(1, 12))
        assert spool.counters().failure == ""
    assert caplog.text.count("spool.write_failed") <= 2  # reported once per cause, not per attempt
    assert "spool.writable_again" in caplog.text
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert seqs(spool) == list(range(1, 12))


def test_events_that_could_not_be_read_for_a_while_come_once_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(spool_module, "RETRY_S", 60)  # the fourth event stays in memory
    monkeypatch.setattr(spool_module, "READ_RETRY_S", 0)
    with open_spool(tmp_path, LAZY) as spool:
        for n in range(1, 4):
            spool.put(TOPIC, body(n))
        assert spool.flush(10)
        (first, *_) = spool.pending()
        with monkeypatch.context() as fault:
            fault.setattr(spool._file, "read", broken)
            spool.put(TOPIC, body(4))
            for _ in range(2):  # it can be sent all the same
                newest = spool.pending(first.row)
                assert [event.seq for event in newest] == [4]
            assert spool.pending(newest[-1].row) == []
        assert [event.seq for event in spool.pending(newest[-1].row)] == [2, 3]
        assert spool.pending(newest[-1].row) == []


def test_file_that_cannot_be_read_is_not_tried_at_every_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def broken(after_row: int, _limit: int) -> None:
        tries.append(after_row)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(spool_module, "READ_RETRY_S", 60)
    with open_spool(tmp_path) as spool:
        spool.put(TOPIC, body(1))
        assert spool.flush(10)
        with monkeypatch.context() as fault:
            fault.setattr(spool._file, "read", broken)
            for _ in range(20):
                assert spool.pending() == []
        assert tries == [0]
        assert spool.pending() == []  # not yet
        spool._read_retry_s = 0.0
        assert seqs(spool) == [1]


def test_disk_that_fails_is_not_tried_at_every_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 60)
    with open_spool(tmp_path) as spool, full_disk(4096):
        for n in range(HOLD_EVENTS + 50):
            spool.put(TOPIC, body(n))
        wait_until(lambda: spool.counters().write_failures)
        spool.put(TOPIC, body(n))
        assert not spool.flush(0.2)
        assert spool.counters().write_failures == 1


NEWEST_BYTES = sum(len(body(n)) for n in range(70, 120))


@pytest.mark.parametrize(
    ("bound", "value"), [("MEMORY_EVENTS", 50), ("MEMORY_BYTES", NEWEST_BYTES)]
)
def test_memory_is_bounded_while_the_disk_fails_and_the_loss_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    monkeypatch.setattr(spool_module, bound, value)
    with open_spool(tmp_path) as spool:
        with full_disk(4096):
            for n in range(120):
                spool.put(TOPIC, body(n))
            assert seqs(spool) == list(range(71, 121))
            expected = LostRange(boot_id="boot-1", first_seq=1, last_seq=70, count=70)
            assert list(spool.lost().values()) == [expected]
        assert spool.flush(10)
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert seqs(spool) == list(range(71, 121))
        assert list(spool.lost().values()) == [expected]


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    assert shutil.disk_usage(path).free == 0


def test_really_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    with open_spool(small_disk) as spool:
        spool.put(TOPIC, body(1))
        assert spool.flush(10)
        fill(small_disk / "filler")
        for n in range(2, 60):
            spool.put(TOPIC, body(n, 2000))
        wait_until(lambda: spool.counters().failure != "")
        assert seqs(spool) == list(range(1, 60))  # data on the full disk can still be read
        with pytest.raises(PublishError, match="free some space"):
            open_spool(small_disk / "second").__enter__()
        (small_disk / "filler").unlink()
        assert spool.flush(10)
        assert seqs(spool) == list(range(1, 60))


def test_disk_filled_by_the_spool_is_free_again_once_all_is_delivered(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    with open_spool(small_disk) as spool:
        while not spool.counters().failure:
            spool.put(TOPIC, body(1, 50_000))
            spool.flush(0.2)
        delivered = spool.pending(limit=1000)
        spool.acknowledge([event.row for event in delivered[1:]])
        failures = spool.counters().write_failures
        wait_until(lambda: spool.counters().write_failures > failures + 1)
        assert seqs(spool) == [1]
        spool.acknowledge([delivered[0].row])
        wait_until(lambda: not spool.counters().failure)
        assert spool.counters().waiting == 0
        spool.put(TOPIC, body(2))
        assert spool.flush(10)
        last_seq = seqs(spool)[-1]
    with open_spool(small_disk, boot_id="boot-2") as spool:
        assert seqs(spool) == [last_seq]


def test_put_does_not_wait_while_a_full_disk_is_looked_through(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    looks, release = threading.Event(), threading.Event()

    def look(_file: EventFile, _delivered: object) -> bool:
        looks.set()
        return not release.wait(20)

    monkeypatch.setattr(EventFile, "holds_up", look)
    with open_spool(small_disk) as spool:
        fill(small_disk / "filler")
        spool.put(TOPIC, body(1))
        assert looks.wait(10)
        other = threading.Thread(target=spool.put, args=(TOPIC, body(2)))
        other.start()
        other.join(15)
        is_done = not other.is_alive()
        release.set()
        (small_disk / "filler").unlink()
    assert is_done
