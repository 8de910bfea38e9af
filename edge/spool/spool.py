"""Bounded on-disk queue of events that wait for the broker.

Method: `put` numbers an event and keeps it in memory; a writer thread commits the events in memory
in batches. An event that the broker acknowledged before its batch was due never touches the disk,
so a board with a working broker writes nothing.

Guarantees:
- An event is accepted when its batch is committed or the broker acknowledged it, whichever comes
  first. `flush` returns True when all events put so far are accepted. Neither kill -9 nor a power
  cut loses an accepted event, because the log is synced at each commit. They lose at most the batch
  in memory, which is `commit_interval_s` of events.
- Events are returned in the order of `put`, also after restarts; those that could not be read for a
  while come as soon as they can. An acknowledged event is deleted after DELETE_AFTER_S; when the
  daemon is killed before that, it is sent again with the same body.
- When the file is full, the oldest events are dropped and `lost` lists them exactly, also after a
  restart. An event in flight to the broker at that moment may be listed although it was delivered.
- While the disk cannot be written, events wait in memory up to MEMORY_EVENTS and MEMORY_BYTES;
  beyond that the oldest in memory are dropped and listed. Once all events on a full disk are
  delivered, a new file makes room.
- While the day's write allowance is used up, a batch waits until the allowance has grown again or
  memory holds HOLD_EVENTS or HOLD_BYTES; kill -9 can then lose that many.
- A damaged file is moved aside and a new one is begun; only the newest damaged file is kept.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from edge.config import SpoolConfig
from edge.errors import PublishError
from edge.messages import LostRange, SpooledEvent
from edge.spool.event_file import DAY_S, Change, Committed, EventFile, add_losses
from edge.spool.soundness import is_full

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
MEMORY_EVENTS = 5000
MEMORY_BYTES = 8 * 1024 * 1024
HOLD_EVENTS = 500
HOLD_BYTES = 1024 * 1024
DELETE_AFTER_S = 2.0
RETRY_S = 5.0
READ_RETRY_S = 1.0  # each failed read also probes the disk
_NEVER_S = float("inf")
_ALL_READ = sys.maxsize  # no row is larger


@dataclass(frozen=True, slots=True)
class SpoolCounters:
    """Counts since the daemon's start, and the spool's present content.

    waiting: unacknowledged events, in memory and on disk.
    lost: events dropped because there was no room.
    written_bytes: upper estimate of what commits and checkpoints wrote.
    failure: why the disk cannot be written; empty when it can.
    """

    put: int = 0
    acknowledged: int = 0
    waiting: int = 0
    waiting_in_memory: int = 0
    lost: int = 0
    used_bytes: int = 0
    written_bytes: int = 0
    write_failures: int = 0
    failure: str = ""


class Spool:
    """The queue; a context manager that owns the file and the writer thread.

    path: the SQLite file, created with its folder when missing.
    boot_id: identifies this start of the daemon; `seq` counts its events from 1.
    wall: seconds since the epoch, for the daily write allowance.
    Entering raises PublishError when the file cannot be created, opened or written.
    """

    def __init__(
        self,
        path: Path,
        config: SpoolConfig,
        *,
        boot_id: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.boot_id = boot_id
        self._path = path
        self._config = config
        self._wall = wall
        self._file_lock = threading.Lock()  # around the file; taken before _changed, never after
        self._changed = threading.Condition()  # around everything below
        self._memory: dict[int, SpooledEvent] = {}
        self._memory_bytes = 0
        self._to_delete: set[int] = set()
        self._losses: dict[int, LostRange] = {}
        self._losses_dirty = False
        self._handed_out_loss = 0
        self._seq = 0
        self._row = 0
        self._due_s = _NEVER_S
        self._retry_s = 0.0
        self._must_flush = self._is_stopping = False
        self._counters = SpoolCounters()
        self._stored = 0
        self._unread_from = _ALL_READ
        self._read_retry_s = 0.0

    def __enter__(self) -> Self:
        """Open the file and start the writer."""
        self._file = EventFile(self._path, self._config, wall=self._wall)
        self._row = self._file.last_row()
        self._stored = self._file.count()
        self._losses = self._file.losses()
        self._counters = replace(self._counters, used_bytes=self._file.used_bytes())
        if self._stored:
            logger.info("spool.found events=%d path=%s", self._stored, self._path)
        self._writer = threading.Thread(target=self._write_until_stopped, name="spool", daemon=True)
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the spool."""
        self.close()

    def close(self) -> None:
        """Commit the events in memory, stop the writer and close the file; idempotent."""
        with self._changed:
            if self._is_stopping:
                return
            self._is_stopping = True
            self._changed.notify_all()
        self._writer.join()
        self._file.close()
        if self._memory:
            logger.error("spool.not_saved events=%d path=%s", len(self._memory), self._path)

    def put(self, topic: str, body: bytes) -> int:
        """Queue an event and return its seq; never waits for the disk.

        body: an encoded `EventBody`. Any thread may call.
        Raises ValueError for a body larger than MAX_BODY_BYTES, PublishError when the writer died.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"event of {len(body)} bytes; at most {MAX_BODY_BYTES} fit the spool")
        if not self._writer.is_alive():
            raise PublishError(f"spool {self._path}: its writer stopped; restart the daemon")
        with self._changed:
            self._seq += 1
            self._row += 1
            now_s = time.monotonic()
            event = SpooledEvent(self._row, self.boot_id, self._seq, topic, body, now_s)
            self._memory[event.row] = event
            self._memory_bytes += len(body)
            self._bound_memory()
            self._due_s = min(self._due_s, now_s + self._config.commit_interval_s)
            self._changed.notify_all()
            return self._seq

    def flush(self, timeout_s: float) -> bool:
        """Wait until all events put so far are accepted; return False on time-out."""
        with self._changed:
            last_row = self._row
            self._must_flush = True
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: next(iter(self._memory), last_row + 1) > last_row, timeout_s
            )

    def pending(self, after_row: int = 0, limit: int = 100) -> list[SpooledEvent]:
        """Return at most `limit` unacknowledged events with larger rows, oldest first.

        The same events come again until they are acknowledged. Those that could not be read come
        once they can, then also with smaller rows, and some after them a second time.
        """
        events: list[SpooledEvent] = []
        with self._file_lock:
            read_row = min(after_row, self._unread_from)
            while len(events) < limit and self._stored:
                stored = self._read(read_row, limit)
                if not stored:
                    break
                read_row = stored[-1].row
                with self._changed:
                    events += [event for event in stored if event.row not in self._to_delete]
            first_row = max(after_row, read_row)
            with self._changed:
                events += [event for row, event in self._memory.items() if row > first_row]
        return events[:limit]

    def acknowledge(self, rows: Iterable[int]) -> None:
        """Remove delivered events; unknown rows are ignored."""
        with self._changed:
            count = 0
            for row in rows:
                count += 1
                event = self._memory.pop(row, None)
                if event is None:
                    self._to_delete.add(row)
                    self._due_s = min(self._due_s, time.monotonic() + DELETE_AFTER_S)
                else:
                    self._memory_bytes -= len(event.body)
            self._counters = replace(
                self._counters, acknowledged=self._counters.acknowledged + count
            )
            self._changed.notify_all()

    def lost(self) -> dict[int, LostRange]:
        """Return the lost ranges not yet acknowledged, by an id for `acknowledge_lost`."""
        with self._changed:
            self._handed_out_loss = max(self._losses, default=self._handed_out_loss)
            return dict(self._losses)

    def acknowledge_lost(self, loss_id: int) -> None:
        """Remove a lost range that the broker has acknowledged."""
        with self._changed:
            if self._losses.pop(loss_id, None) is not None:
                self._losses_dirty = True
                self._due_s = min(self._due_s, time.monotonic() + DELETE_AFTER_S)
                self._changed.notify_all()

    def last_row(self) -> int:
        """Return the row of the newest event put, 0 when there was never one."""
        with self._changed:
            return self._row

    def counters(self) -> SpoolCounters:
        """Return the counters at this moment."""
        with self._changed:
            in_memory = len(self._memory)
            return replace(
                self._counters,
                put=self._seq,
                waiting=self._stored - len(self._to_delete) + in_memory,
                waiting_in_memory=in_memory,
            )

    # The writer thread's methods; those from _note_failure on run in callers' threads too.

    def _write_until_stopped(self) -> None:
        while True:
            with self._changed:
                while not self._is_due():
                    self._changed.wait(self._wait_s())
                is_last = self._is_stopping
                self._must_flush = False
                self._due_s = _NEVER_S
            self._write_batch()
            with self._changed:
                if is_last and (not self._memory or self._counters.failure):
                    return

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._retry_s and not self._is_stopping:
            return False
        is_enough = len(self._memory) >= HOLD_EVENTS or self._memory_bytes >= HOLD_BYTES
        if self._is_stopping or self._must_flush or is_enough:
            return True
        if not (self._memory or self._to_delete or self._losses_dirty):
            self._due_s = _NEVER_S
            return False
        if self._file.allowance_bytes() <= 0:
            return False
        return now_s >= self._due_s

    def _wait_s(self) -> float | None:
        """Return how long no batch can become due, None when only a call can make one due."""
        now_s = time.monotonic()
        if now_s < self._retry_s:
            return self._retry_s - now_s
        if self._due_s == _NEVER_S:
            return None
        debt_bytes = -self._file.allowance_bytes()
        if debt_bytes >= 0:
            return 0.01 + debt_bytes * DAY_S / self._config.max_write_bytes_per_day
        return max(0.0, self._due_s - now_s)

    def _write_batch(self) -> None:
        with self._changed:
            change = Change(
                tuple(self._memory.values()), tuple(self._to_delete), dict(self._losses)
            )
            keep_loss = self._handed_out_loss
            if not (change.events or change.deleted_rows or self._losses_dirty):
                return
            self._losses_dirty = False
        with self._file_lock:
            try:
                committed = self._file.commit(change, keep_loss)
            except sqlite3.Error as error:
                self._note_failure(error)
            else:
                self._settle(change, committed)

    def _settle(self, change: Change, committed: Committed) -> None:
        """Update memory and counters after a commit; the file lock is held."""
        with self._changed:
            for event in change.events:
                if self._memory.pop(event.row, None) is None:
                    self._to_delete.add(event.row)  # acknowledged or dropped during the write
                    self._due_s = min(self._due_s, time.monotonic() + DELETE_AFTER_S)
                else:
                    self._memory_bytes -= len(event.body)
            self._to_delete.difference_update(change.deleted_rows)
            self._stored += committed.added - committed.removed - len(committed.dropped)
            self._note_lost(committed.dropped, why="file full")
            if self._counters.failure:
                logger.warning("spool.writable_again path=%s", self._path)
            self._counters = replace(
                self._counters,
                used_bytes=self._file.used_bytes(),
                written_bytes=self._file.written_bytes,
                failure="",
            )
            self._changed.notify_all()

    def _note_failure(self, error: sqlite3.Error) -> None:
        """Count a failed access and reopen the file if that may help; the file lock is held."""
        failure = str(error)
        try:
            self._repair(error)
            stored = self._file.count()
        except (PublishError, sqlite3.Error, OSError) as second:
            failure, stored = str(second), self._stored
        with self._changed:
            if failure != self._counters.failure:
                logger.error(
                    "spool.write_failed path=%s error=%s; events wait in memory, at most %d",
                    self._path,
                    failure,
                    MEMORY_EVENTS,
                )
            failures = self._counters.write_failures + 1
            self._counters = replace(
                self._counters, write_failures=failures, failure=failure or "unknown"
            )
            self._stored = stored
            self._losses_dirty = True
            self._retry_s = time.monotonic() + RETRY_S
            self._due_s = min(self._due_s, self._retry_s)
            self._changed.notify_all()

    def _repair(self, error: sqlite3.Error) -> None:
        """Open the file again, or a new one where it fills the disk with delivered events."""
        if not is_full(error):
            self._file.reopen(error)
            return
        with self._changed:
            delivered, losses = frozenset(self._to_delete), len(self._losses)
        if losses or not self._file.holds_up(delivered):
            return
        with self._changed:
            self._to_delete.clear()
            self._stored = 0
        self._file.renew()

    def _read(self, after_row: int, limit: int) -> list[SpooledEvent]:
        """Return stored events, none when the file cannot be read; the file lock is held."""
        if time.monotonic() < self._read_retry_s:
            return []
        try:
            events = self._file.read(after_row, limit)
        except sqlite3.Error as error:
            self._unread_from = after_row
            self._read_retry_s = time.monotonic() + READ_RETRY_S
            self._note_failure(error)
            return []
        self._unread_from = _ALL_READ
        return events

    def _bound_memory(self) -> None:
        """Drop the oldest events in memory beyond the bounds; `_changed` is held."""
        dropped: list[tuple[str, int]] = []
        while len(self._memory) > MEMORY_EVENTS or self._memory_bytes > MEMORY_BYTES:
            event = self._memory.pop(next(iter(self._memory)))
            self._memory_bytes -= len(event.body)
            dropped.append((event.boot_id, event.seq))
        if dropped:
            self._losses_dirty = True
            self._note_lost(dropped, why="memory full")

    def _note_lost(self, dropped: list[tuple[str, int]], *, why: str) -> None:
        """Add dropped events to the lost ranges; `_changed` is held."""
        if not dropped:
            return
        if max(self._losses, default=0) <= self._handed_out_loss:
            logger.warning("spool.dropping reason=%s first_seq=%d", why, dropped[0][1])
        add_losses(self._losses, dropped, self._handed_out_loss)
        self._counters = replace(self._counters, lost=self._counters.lost + len(dropped))
