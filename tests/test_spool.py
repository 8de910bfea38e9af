"""The spool on real files: bounds, restarts, kill -9, full and read-only disks, damage."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge import spool as spool_module
from edge.config import SpoolConfig
from edge.errors import PublishError
from edge.messages import LostRange
from edge.spool import HOLD_EVENTS, MAX_BODY_BYTES, Spool
from edge.spool.event_file import add_losses

TOPIC = "edge/gate/front/events"
SMALLEST = 65_536
PROMPT = SpoolConfig(commit_interval_s=0)
# Nothing is written by itself within a test.
LAZY = SpoolConfig(commit_interval_s=60)
CHILD = Path(__file__).with_name("spool_child.py")


def open_spool(path: Path, config: SpoolConfig = PROMPT, boot_id: str = "boot-1") -> Spool:
    return Spool(path / "spool.sqlite", config, boot_id=boot_id)


def body(number: int, size: int = 300) -> bytes:
    return b'{"n":%d,"pad":"%s"}' % (number, b"x" * size)


def seqs(spool: Spool) -> list[int]:
    return [event.seq for event in spool.pending(0, 100_000)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Poll a state that has no event to wait for; fail when it does not come."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("the awaited state did not come")


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


def test_event_acknowledged_before_its_commit_never_touches_the_disk(tmp_path: Path) -> None:
    with open_spool(tmp_path, LAZY) as spool:
        for n in range(20):
            spool.put(TOPIC, body(n))
            spool.acknowledge(event.row for event in spool.pending())
        assert spool.flush(10)
        counters = spool.counters()
    assert (counters.put, counters.acknowledged, counters.waiting) == (20, 20, 0)
    assert counters.written_bytes == 0


def test_flush_means_committed(tmp_path: Path) -> None:
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


def test_lost_range_is_told_again_after_a_restart_until_acknowledged(tmp_path: Path) -> None:
    config = SpoolConfig(max_bytes=SMALLEST, commit_interval_s=60)
    with open_spool(tmp_path, config) as spool:
        for n in range(300):
            spool.put(TOPIC, body(n))
        assert spool.flush(10)
        told = spool.lost()
        assert told
    with open_spool(tmp_path, config, boot_id="boot-2") as spool:
        assert spool.lost() == told
        for loss_id in told:
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


def test_used_up_allowance_makes_batches_larger(tmp_path: Path) -> None:
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


def test_allowance_is_remembered_over_restarts(tmp_path: Path) -> None:
    config = SpoolConfig(max_write_bytes_per_day=1_048_576, commit_interval_s=0)
    for boot in ("a", "b"):
        with Spool(tmp_path / "s", config, boot_id=boot, wall=lambda: 5.0) as spool:
            if boot == "a":
                for n in range(60):
                    spool.put(TOPIC, body(n, 20_000))
                    assert spool.flush(10)
            else:
                spool.put(TOPIC, body(0))
                assert spool.counters().waiting_in_memory == 1
                assert spool.flush(10)


def test_second_daemon_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(PublishError, match=r"spool\.sqlite: .*another daemon uses it")
    with open_spool(tmp_path), refused:
        open_spool(tmp_path).__enter__()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle", "other schema", "other file"])
def test_damaged_file_is_moved_aside_and_work_goes_on(
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


def test_torn_end_of_the_log_costs_only_what_was_not_synced(tmp_path: Path) -> None:
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


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Make writes beyond a size fail, as a quota does; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_unwritable_disk_at_start_is_one_clear_error(
    tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    file_size_limit(2000)
    with pytest.raises(PublishError, match=r"spool\.sqlite: .*set another state_dir"):
        open_spool(tmp_path).__enter__()


def test_state_dir_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(PublishError, match=r"cannot create its folder: .*set state_dir"):
        open_spool(tmp_path / "state").__enter__()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one mebibyte; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


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
    file_size_limit: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    with open_spool(tmp_path) as spool:
        spool.put(TOPIC, body(1))
        assert spool.flush(10)
        file_size_limit(4096)
        for n in range(2, 12):
            spool.put(TOPIC, body(n))
        wait_until(lambda: spool.counters().write_failures > 3)
        assert spool.counters().failure
        assert not spool.flush(0.05)
        assert seqs(spool)[-10:] == list(range(2, 12))
        file_size_limit(resource.RLIM_INFINITY)
        assert spool.flush(10)
        assert seqs(spool) == list(range(1, 12))
        assert spool.counters().failure == ""
    assert caplog.text.count("spool.write_failed") <= 2  # told once a cause, not once an attempt
    assert "spool.writable_again" in caplog.text
    with open_spool(tmp_path, boot_id="boot-2") as spool:
        assert seqs(spool) == list(range(1, 12))


def test_memory_is_bounded_while_the_disk_fails_and_the_loss_is_named(
    tmp_path: Path, file_size_limit: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.02)
    monkeypatch.setattr(spool_module, "MEMORY_EVENTS", 50)
    with open_spool(tmp_path) as spool:
        file_size_limit(4096)
        for n in range(120):
            spool.put(TOPIC, body(n))
        assert seqs(spool) == list(range(71, 121))
        expected = LostRange(boot_id="boot-1", first_seq=1, last_seq=70, count=70)
        assert list(spool.lost().values()) == [expected]
        file_size_limit(resource.RLIM_INFINITY)
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
        assert seqs(spool) == list(range(1, 60))  # what is on the full disk can still be read
        with pytest.raises(PublishError, match="free some space"):
            open_spool(small_disk / "second").__enter__()
        (small_disk / "filler").unlink()
        assert spool.flush(10)
        assert seqs(spool) == list(range(1, 60))


def test_kill_9_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    path = tmp_path / "spool.sqlite"
    accepted: list[tuple[str, int]] = []
    environment = {**os.environ, "PYTHONPATH": str(CHILD.parents[1])}
    for boot in range(20):
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(path), f"boot-{boot}"],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(chance.randint(1, 40))]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()  # told before it died
        accepted += [(f"boot-{boot}", int(line)) for line in told if line.endswith("\n")]
        child.wait()
        child.stdout.close()
    with Spool(path, PROMPT, boot_id="last") as spool:
        found = [(event.boot_id, event.seq) for event in spool.pending(0, 1_000_000)]
    assert set(accepted) <= set(found)
    assert len(found) == len(set(found))
    for boot in range(20):
        numbers = [seq for boot_id, seq in found if boot_id == f"boot-{boot}"]
        assert numbers == list(range(1, len(numbers) + 1))


class SpoolMachine(RuleBasedStateMachine):
    """The spool against a list: any order of puts, acknowledgements, flushes and restarts."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        for file in self.folder.iterdir():
            file.unlink()
        self.boot = 0
        self.waiting: list[tuple[str, int, bytes]] = []
        self.lost: list[tuple[str, int]] = []
        self.start()

    def start(self) -> None:
        self.boot += 1
        config = SpoolConfig(max_bytes=SMALLEST, commit_interval_s=60)
        self.spool = open_spool(self.folder, config, boot_id=f"boot-{self.boot}").__enter__()
        self.seq = 0

    @rule(size=st.integers(0, 9000), count=st.integers(1, 5))
    def put(self, size: int, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            content = body(self.seq, size)
            assert self.spool.put(TOPIC, content) == self.seq
            self.waiting.append((f"boot-{self.boot}", self.seq, content))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        events = self.spool.pending(0, 10_000)
        chosen = data.draw(st.sets(st.sampled_from(range(len(events))))) if events else set()
        self.spool.acknowledge([events[index].row for index in chosen])
        gone = {(events[index].boot_id, events[index].seq) for index in chosen}
        self.waiting = [entry for entry in self.waiting if entry[:2] not in gone]

    @rule()
    def flush(self) -> None:
        assert self.spool.flush(10)

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.start()

    @rule()
    def acknowledge_lost(self) -> None:
        self.take_losses(set())
        for loss_id, _ in sorted(self.spool.lost().items()):
            self.spool.acknowledge_lost(loss_id)
        self.lost = []

    @invariant()
    def holds_the_newest_and_names_the_rest(self) -> None:
        found = [(e.boot_id, e.seq, e.body) for e in self.spool.pending(0, 10_000)]
        dropped = self.waiting[: len(self.waiting) - len(found)]
        assert found == self.waiting[len(dropped) :]
        self.waiting = found
        self.take_losses({entry[:2] for entry in dropped})

    def take_losses(self, dropped: set[tuple[str, int]]) -> None:
        """What is missing is what the lost ranges name, and nothing else."""
        self.lost += sorted(dropped)
        ranges = self.spool.lost().values()
        assert sum(lost.count for lost in ranges) == len(self.lost)
        for boot_id, seq in self.lost:
            assert any(
                lost.boot_id == boot_id and lost.first_seq <= seq <= lost.last_seq
                for lost in ranges
            )

    def teardown(self) -> None:
        self.spool.close()


def test_spool_behaves_like_a_list(tmp_path: Path) -> None:
    class Machine(SpoolMachine):
        folder = tmp_path

    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None, database=None),
    )


@given(
    dropped=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50)), max_size=30),
    split=st.integers(0, 30),
)
def test_ranges_count_every_dropped_event_once(dropped: list[tuple[str, int]], split: int) -> None:
    losses: dict[int, LostRange] = {}
    add_losses(losses, dropped[:split], keep=0)
    add_losses(losses, dropped[split:], keep=max(losses, default=0))
    assert sum(lost.count for lost in losses.values()) == len(dropped)
    assert list(losses) == sorted(losses)
