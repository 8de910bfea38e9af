"""The spool's SQLite file: stores and returns events, and counts the bytes it writes.

Write-ahead log with synchronous=FULL: a commit that returned is on the medium, so neither kill -9
nor a power cut loses it. The file is locked while open: two daemons cannot share it. Checkpoints
run only here and empty the log, so the log's growth is the number of bytes written.
Not thread-safe: `Spool` holds a lock around every call but that of `allowance_bytes`, which only
its writer thread calls.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge import durable
from edge.config import SpoolConfig
from edge.errors import PublishError
from edge.messages import LostRange, SpooledEvent
from edge.spool.soundness import (
    DamagedError,
    check_content,
    event_of,
    fix_of,
    is_damage,
    is_full,
    number_of,
)

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
CHECKPOINT_BYTES = 1024 * 1024
NEW_FILE_BYTES = 64 * 1024  # a new file with its log takes half of that
DAY_S = 86_400.0
_SCHEMA = """
CREATE TABLE event(
    row INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, seq INTEGER NOT NULL,
    topic TEXT NOT NULL, body BLOB NOT NULL, put_mono_s REAL NOT NULL) STRICT;
CREATE TABLE lost(
    id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL, count INTEGER NOT NULL) STRICT;
CREATE TABLE meter(allowance_bytes REAL NOT NULL, at_utc_s REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does.

    losses: all lost ranges not yet published, by id. The file keeps exactly these, plus the ranges
        of events that this commit drops to make room.
    """

    events: Sequence[SpooledEvent]
    deleted_rows: Iterable[int]
    losses: dict[int, LostRange]


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did to the stored events.

    added: new rows; fewer than given when an earlier commit reported failure but was stored.
    removed: rows deleted on request.
    dropped: (boot_id, seq) of the oldest events, deleted to make room; not counted in `removed`.
    """

    added: int
    removed: int
    dropped: list[tuple[str, int]]


def add_losses(losses: dict[int, LostRange], dropped: Iterable[tuple[str, int]], keep: int) -> None:
    """Add dropped events to the lost ranges, in place.

    losses: ranges by id. dropped: (boot_id, seq) of the events, in order.
    keep: ranges with ids up to this one have been handed out and stay unchanged.
    """
    for boot_id, seq in dropped:
        last_id = max(losses, default=0)
        last = losses.get(last_id)
        if last is None or last_id <= keep or last.boot_id != boot_id:
            losses[max(last_id, keep) + 1] = LostRange(
                boot_id=boot_id, first_seq=seq, last_seq=seq, count=1
            )
        else:
            losses[last_id] = LostRange(
                boot_id=boot_id, first_seq=last.first_seq, last_seq=seq, count=last.count + 1
            )


class EventFile:
    """An open spool file.

    wall: seconds since the epoch; measures the write allowance over restarts.
    Raises PublishError when the file cannot be created, opened or written.
    """

    def __init__(
        self, path: Path, config: SpoolConfig, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._config = config
        self._wall = wall
        self._db = self._open_or_replace()
        self.written_bytes = 0
        self._checkpoint_failure = ""
        meter = self._db.execute("SELECT allowance_bytes, at_utc_s FROM meter").fetchone()
        # A damaged number must neither block all writes forever nor lift the limit.
        most = float(config.max_write_bytes_per_day)
        self._allowance = min(max(number_of(meter[0], most), -most), most)
        self._metered_utc_s = number_of(meter[1], wall())

    def close(self) -> None:
        """Checkpoint the log into the file and close it."""
        self._try_checkpoint()
        self._db.close()

    def reopen(self, error: Exception) -> None:
        """Open the file again after an error; a damaged file is replaced by an empty one.

        The damaged file is moved aside. On a disk that is full or read-only the file stays open:
        its events can still be read, which a reopened file would not allow.
        Raises PublishError when the file cannot be written; call it again later.
        """
        if is_full(error) or not (is_damage(error) or self._disk_takes_writes()):
            return
        self._db.close()
        self._db = self._open_or_replace()

    def holds_up(self, delivered: AbstractSet[int]) -> bool:
        """Return whether the file fills the disk with delivered events alone.

        The log needs room to delete them, and the file needs room to take over the log.
        """
        size = self._pragma("page_size") * self._pragma("page_count") + self._wal_bytes()
        rows = self._db.execute("SELECT row FROM event")
        return size > NEW_FILE_BYTES and all(row in delivered for (row,) in rows)

    def renew(self) -> None:
        """Begin a new file; the events are gone. Raises OSError, and PublishError as `reopen`."""
        self._db.close()
        for end in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)
        self._db = self._open_or_replace()

    def last_row(self) -> int:
        """Return the largest row, 0 when empty."""
        return int(self._db.execute("SELECT coalesce(max(row), 0) FROM event").fetchone()[0])

    def count(self) -> int:
        """Return the number of events."""
        return int(self._db.execute("SELECT count(*) FROM event").fetchone()[0])

    def read(self, after_row: int, limit: int) -> list[SpooledEvent]:
        """Return at most `limit` events with larger rows, oldest first.

        Raises sqlite3.Error, which includes DamagedError.
        """
        cursor = self._db.execute(
            "SELECT row, boot_id, seq, topic, body, put_mono_s FROM event"
            " WHERE row > ? ORDER BY row LIMIT ?",
            (after_row, limit),
        )
        return [event_of(fields) for fields in cursor]

    def losses(self) -> dict[int, LostRange]:
        """Return the lost ranges not yet published, by id."""
        cursor = self._db.execute("SELECT id, boot_id, first_seq, last_seq, count FROM lost")
        return {
            loss_id: LostRange(boot_id=boot_id, first_seq=first, last_seq=last, count=count)
            for loss_id, boot_id, first, last, count in cursor
        }

    def commit(self, change: Change, keep_loss: int) -> Committed:
        """Write a change and make room for it.

        keep_loss: `keep` of `add_losses`. Raises sqlite3.Error and then leaves the file unchanged.
        """
        before = self._wal_bytes()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            committed = self._apply(change, keep_loss)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            raise
        self._spend(self._wal_bytes() - before)
        if self._wal_bytes() >= CHECKPOINT_BYTES:
            self._try_checkpoint()
        return committed

    def allowance_bytes(self) -> float:
        """Return how many bytes may be written now; negative when in debt.

        The allowance grows at a constant rate up to one day's limit; a new file begins with that.
        """
        now_s = self._wall()
        rate = self._config.max_write_bytes_per_day / DAY_S
        grown = self._allowance + max(0.0, now_s - self._metered_utc_s) * rate
        self._metered_utc_s = now_s  # a clock set back changes nothing
        self._allowance = min(grown, float(self._config.max_write_bytes_per_day))
        return self._allowance

    def used_bytes(self) -> int:
        """Return the bytes of the file's used pages, including changes still in the log."""
        return self._pragma("page_size") * (
            self._pragma("page_count") - self._pragma("freelist_count")
        )

    def _apply(self, change: Change, keep_loss: int) -> Committed:
        db = self._db
        rows = ((row,) for row in change.deleted_rows)
        removed = max(0, db.executemany("DELETE FROM event WHERE row = ?", rows).rowcount)
        insert = (
            "INSERT OR IGNORE INTO event(row, boot_id, seq, topic, body, put_mono_s)"
            " VALUES(?,?,?,?,?,?)"
        )
        events = ((e.row, e.boot_id, e.seq, e.topic, e.body, e.put_mono_s) for e in change.events)
        added = max(0, db.executemany(insert, events).rowcount)
        dropped = self._make_room()
        losses = dict(change.losses)
        add_losses(losses, dropped, keep_loss)
        if losses != self.losses():
            db.execute("DELETE FROM lost")
            db.executemany(
                "INSERT INTO lost(id, boot_id, first_seq, last_seq, count) VALUES(?,?,?,?,?)",
                ((key, x.boot_id, x.first_seq, x.last_seq, x.count) for key, x in losses.items()),
            )
        return Committed(added, removed, dropped)

    def _make_room(self) -> list[tuple[str, int]]:
        """Delete the oldest events until the pages in use fit; return them as (boot_id, seq)."""
        dropped: list[tuple[str, int]] = []
        while (excess := self.used_bytes() - self._config.max_bytes) > 0:
            oldest = self._db.execute(
                "SELECT row, boot_id, seq, length(body) FROM event ORDER BY row LIMIT 500"
            ).fetchall()
            if not oldest:
                break
            freed = 0
            for row, boot_id, seq, size in oldest:
                self._db.execute("DELETE FROM event WHERE row = ?", (row,))
                dropped.append((boot_id, seq))
                freed += size
                if freed >= excess:
                    break
        return dropped

    def _spend(self, size: int) -> None:
        self.written_bytes += size
        self._allowance -= size

    def _try_checkpoint(self) -> None:
        """Copy the log into the file and empty it; a failure only leaves a longer log.

        The bytes written are counted as if every log frame were copied. The allowance is stored
        only here: that saves a page in each commit, and kill -9 loses at most one log's spending.
        """
        self._spend(self._wal_bytes())
        meter = (self.allowance_bytes(), self._metered_utc_s)
        try:
            self._db.execute("UPDATE meter SET allowance_bytes = ?, at_utc_s = ?", meter)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            if str(error) != self._checkpoint_failure:
                logger.warning("spool.checkpoint_failed path=%s error=%s", self._path, error)
            self._checkpoint_failure = str(error)
        else:
            self._checkpoint_failure = ""

    def _disk_takes_writes(self) -> bool:
        probe = self._path.with_name(self._path.name + "-probe")
        try:
            durable.write(probe, b"probe")
            probe.unlink()
        except OSError:
            return False
        return True

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PublishError(
                f"spool {self._path}: cannot create its folder: {error.strerror}; "
                "set state_dir to a writable folder"
            ) from None
        try:
            return self._connect()
        except DamagedError as damage:
            self._set_aside(damage)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        """Open the file, check it, and test that it can be written.

        Raises PublishError naming the file and the fix, DamagedError when it is not a spool.
        """
        db = None
        try:
            db = sqlite3.connect(
                self._path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            _prepare(db, self._config, self._wall)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            if db is not None:
                db.close()
            # A damaged schema puts undecodable names into SQLite's error message.
            if is_damage(error) or isinstance(error, UnicodeDecodeError):
                raise DamagedError(str(error)) from None
            raise PublishError(
                f"spool {self._path}: {error}; {fix_of(error, self._path)}"
            ) from None
        return db

    def _set_aside(self, fault: object) -> None:
        """Rename the damaged file; only the newest such file is kept, to bound their space."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        aside = self._path.with_name(f"{self._path.name}.corrupt-{stamp}")
        try:
            for older in self._path.parent.glob(f"{self._path.name}.corrupt-*"):
                older.unlink()
            for end in ("", "-wal", "-shm"):
                part = self._path.with_name(self._path.name + end)
                if part.exists():
                    part.rename(aside.with_name(aside.name + end))
        except OSError as error:
            raise PublishError(
                f"spool {self._path}: damaged ({fault}) and cannot be moved aside: "
                f"{error.strerror}; remove it"
            ) from None
        logger.error(
            "spool.damaged path=%s fault=%s moved_to=%s events_in_it=not_sent",
            self._path,
            fault,
            aside,
        )


def _prepare(db: sqlite3.Connection, config: SpoolConfig, wall: Callable[[], float]) -> None:
    """Set the pragmas, check the file, create the tables and write one row.

    Raises sqlite3.Error, DamagedError.
    """
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA journal_size_limit = 0")
    db.execute("PRAGMA cache_size = -1024")  # KiB
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    if (version, tables) not in ((0, set()), (SCHEMA_VERSION, {"event", "lost", "meter"})):
        raise DamagedError(f"schema {version} with tables {sorted(tables)}, not {SCHEMA_VERSION}")
    fault = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise DamagedError(fault.splitlines()[-1])
    if version:
        check_content(db)
    db.execute("BEGIN IMMEDIATE")
    if not version:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        start = (float(config.max_write_bytes_per_day), wall())
        db.execute("INSERT INTO meter(allowance_bytes, at_utc_s) VALUES(?,?)", start)
    elif not db.execute("UPDATE meter SET at_utc_s = min(at_utc_s, ?)", (wall(),)).rowcount:
        raise DamagedError("its meter is missing")
    db.execute("COMMIT")
