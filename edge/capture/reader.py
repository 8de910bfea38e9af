"""Reads one source in a thread of its own that can be abandoned.

OpenCV's calls cannot be interrupted: `read()` on a dead camera may return after minutes or never.
So the thread sets a deadline before each call, and `outcome` abandons the thread once it has
passed. An abandoned thread delivers nothing more. When its call returns at last, it releases the
source and ends. It is a daemon thread and never holds up the process.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from edge.capture.address import SourceKind, kind_of
from edge.capture.source import FOLDER_FPS, Source, hang_hint, no_frame_reason
from edge.config import CameraConfig
from edge.errors import CameraError, InputError
from edge.values import Image

Opener = Callable[[CameraConfig], Source]
THREAD_NAME = "capture-reader"
GRACE_S = 0.5  # lets OpenCV's own time-out strike first: it ends a call more cleanly
# OpenCV opens one source at a time with ffmpeg (opencv/opencv#17057). A reader that waited for
# another inside it would seem to hang, so readers wait here.
FFMPEG_KINDS = frozenset({SourceKind.STREAM, SourceKind.VIDEO})
TURNS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
LOOK_S = 0.1  # how often a waiting reader looks whether it is its turn


class EndCause(StrEnum):
    """Why a reader stopped."""

    END = "end"  # end of a file
    LOST = "lost"  # worth another attempt
    HUNG = "hung"  # abandoned in a call that did not return
    WRONG = "wrong"  # no retry can help


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why a reader stopped, in words for the log; `error` is set when the cause is WRONG."""

    cause: EndCause
    reason: str = ""
    error: Exception | None = None


class Reader:
    """Opens a source and delivers its images until it fails, ends, or `stop` is set.

    deliver: called in the reader's thread with each image and its position in the file in
        seconds (0 for live sources); may block.
    on_bad: called in that thread for each damaged image.
    wake: set when the reader has stopped; the supervisor waits for it.
    """

    _turn = threading.Lock()
    _opening: Reader | None = None  # whose turn it is, of all readers

    def __init__(
        self,
        config: CameraConfig,
        open_source: Opener,
        deliver: Callable[[Image, float], None],
        on_bad: Callable[[], None],
        wake: threading.Event,
    ) -> None:
        self._config = config
        self._open_source = open_source
        self._deliver = deliver
        self._on_bad = on_bad
        self._wake = wake
        self._stop = threading.Event()
        self._outcome: Outcome | None = None
        self._overdue_s = math.inf  # monotonic time at which the running call is overdue
        self._queued_s = math.inf  # since when, monotonic, it waits for its turn to open
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    @property
    def is_stopped(self) -> bool:
        """Return whether `stop` was called."""
        return self._stop.is_set()

    @property
    def is_alive(self) -> bool:
        """Return whether the thread has not ended: it runs or hangs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def outcome(self) -> Outcome | None:
        """Return how the reader ended; None while it runs as it should."""
        if self._outcome is None and time.monotonic() >= self._overdue_s:
            self.stop()
            return Outcome(EndCause.HUNG, f"no answer in time; {hang_hint(self._config)}")
        return self._outcome

    @property
    def queued_s(self) -> float:
        """Return for how long it has waited for others to be opened; negative when it does not."""
        return time.monotonic() - self._queued_s

    def patience_s(self) -> float:
        """Return how long to wait for `wake` before checking `outcome` again."""
        return min(self._overdue_s - time.monotonic(), self._config.read_timeout_s)

    def stop(self) -> None:
        """Ask the thread to end after its running call; `deliver` refuses what still comes."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self.is_alive

    def _run(self) -> None:
        try:
            self._outcome = self._read_all()
        except InputError as error:
            self._outcome = Outcome(EndCause.WRONG, str(error), error)
        except CameraError as error:
            self._outcome = Outcome(EndCause.LOST, str(error))
        except Exception as error:  # noqa: BLE001 - handed to the consumer, who raises it
            self._outcome = Outcome(EndCause.WRONG, repr(error), error)
        finally:
            self._wake.set()

    def _read_all(self) -> Outcome:
        pace = _Pace(self._stop, is_realtime=self._config.realtime)
        while not self._stop.is_set():
            source = self._open()
            if source is None:
                break
            try:
                outcome = self._read(source, pace)
            finally:
                self._expect_within(self._config.read_timeout_s)
                source.close()
            if outcome is not None:
                return outcome
        return Outcome(EndCause.END, "stopped")

    def _open(self) -> Source | None:
        """Open the source when it is its turn; return None when stopped before."""
        if kind_of(self._config.source) not in FFMPEG_KINDS:
            self._expect_within(self._config.open_timeout_s)
            return self._open_source(self._config)
        self._overdue_s, self._queued_s = math.inf, time.monotonic()
        while not self._take_turn():
            if self._stop.wait(LOOK_S):
                return None
        self._queued_s = math.inf
        self._expect_within(self._config.open_timeout_s)
        try:
            return self._open_source(self._config)
        finally:
            with Reader._turn:
                if Reader._opening is self:
                    Reader._opening = None

    def _take_turn(self) -> bool:
        """Return whether this reader may open its source: none does, or one that was given up."""
        with Reader._turn:
            if Reader._opening is None or Reader._opening.is_stopped:
                Reader._opening = self
            return Reader._opening is self

    def _read(self, source: Source, pace: _Pace) -> Outcome | None:
        """Deliver a source's images; return None when stopped, or when a file loops."""
        delivered = 0
        good_s = time.monotonic()
        frozen_check = _FrozenCheck(self._config.frozen_timeout_s)
        while not self._stop.is_set():
            began_s = time.monotonic()
            self._expect_within(self._config.read_timeout_s)
            try:
                bgr = source.read()
            except ValueError as error:
                self._on_bad()
                if source.is_live and began_s - good_s >= self._config.read_timeout_s:
                    return Outcome(EndCause.LOST, f"every picture is refused: {error}")
                continue
            self._overdue_s = math.inf
            good_s = began_s
            # After its time-out, ffmpeg returns the old frames it had buffered, one per call.
            is_late = time.monotonic() - began_s >= self._config.read_timeout_s
            if bgr is None or (source.is_live and is_late):
                return self._at_end(source, delivered)
            if source.is_live and frozen_check.is_frozen(bgr):
                limit_s = self._config.frozen_timeout_s
                return Outcome(EndCause.LOST, f"the same picture for {limit_s:g} s; frozen?")
            if self._config.rotate:
                bgr = np.asarray(cv2.rotate(bgr, TURNS[self._config.rotate]), np.uint8)
            position_s = 0.0 if source.is_live else pace.wait(source.fps)
            self._deliver(bgr, position_s)
            delivered += 1
        return None

    def _at_end(self, source: Source, delivered: int) -> Outcome | None:
        if source.is_live:
            return Outcome(EndCause.LOST, no_frame_reason(self._config))
        if delivered == 0:
            raise InputError(f"{self._config.source}: no picture in it can be read")
        if self._config.loop:
            return None
        return Outcome(EndCause.END, "end of file")

    def _expect_within(self, timeout_s: float) -> None:
        self._overdue_s = time.monotonic() + timeout_s + GRACE_S


def longest_quiet_s(config: CameraConfig) -> float:
    """Return how long a working capture may deliver no frame.

    A live source is abandoned after its read time-out; a folder delivers `fps` images a second.
    """
    return max(config.read_timeout_s, 1 / (config.fps or FOLDER_FPS)) + 2 * GRACE_S


def end_process_if_hanging(code: int) -> None:
    """End the process at once with `code` when a reader still hangs inside OpenCV; else return.

    Call it as the last line of a program. A normal exit would tear OpenCV down under that thread,
    and C++ would abort with 134 instead of the exit code.
    """
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Pace:
    """Paces a file's images at their recorded rate and computes their positions in time."""

    MAX_BEHIND_S = 1.0  # after a longer stall (suspended machine), do not try to catch up

    def __init__(self, stop: threading.Event, *, is_realtime: bool) -> None:
        self._is_realtime = is_realtime
        self._stop = stop
        self._position_s = 0.0
        self._due_s = time.monotonic()

    def wait(self, fps: float) -> float:
        """Wait until the next image is due; return its position in seconds, over all loops."""
        position_s = self._position_s
        if self._is_realtime:
            now_s = time.monotonic()
            self._due_s = max(self._due_s, now_s - self.MAX_BEHIND_S)
            self._stop.wait(max(0.0, self._due_s - now_s))
            self._due_s += 1 / fps
        self._position_s += 1 / fps
        return position_s


class _FrozenCheck:
    """Detects a source that repeats one picture bit for bit.

    A real sensor's noise never repeats; a hung camera or encoder does. One check a second costs
    1 to 2 ms for Full HD, in the reader's thread.
    """

    CHECK_S = 1.0

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._next_check_s = self._changed_s = time.monotonic()
        self._checksum: int | None = None

    def is_frozen(self, bgr: Image) -> bool:
        """Return whether nothing has changed for `limit_s`; never, with a limit of 0."""
        now_s = time.monotonic()
        if self._limit_s == 0 or now_s < self._next_check_s:
            return False
        self._next_check_s = now_s + min(self.CHECK_S, self._limit_s / 2)
        checksum = zlib.crc32(bgr.data)
        if checksum != self._checksum:
            self._checksum, self._changed_s = checksum, now_s
        return now_s - self._changed_s >= self._limit_s
