"""The spool against a list, by random operations."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge.config import SpoolConfig
from edge.messages import LostRange
from edge.spool.event_file import add_losses
from spooling import SMALLEST, TOPIC, body, open_spool


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

    @invariant()
    def counts_the_bytes_in_memory(self) -> None:
        with self.spool._changed:
            in_memory = self.spool._memory.values()
            assert self.spool._memory_bytes == sum(len(event.body) for event in in_memory)

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
        settings=settings(max_examples=25, stateful_step_count=25, database=None),
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
