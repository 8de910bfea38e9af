"""A camera that never blocks its caller and reconnects by itself.

It runs two threads. A reader blocks inside OpenCV (`edge.capture.reader`). A supervisor watches
the reader and replaces it when it fails or hangs. Its back-off between attempts is jittered, so
that a hundred boards do not reconnect to a restarted recorder in the same second.
Any thread may read state and counters.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from edge.allowance import Allowance
from edge.backoff import Backoff
from edge.capture.address import kind_of, redact
from edge.capture.reader import EndCause, Opener, Outcome, Reader
from edge.capture.source import check_source, open_source
from edge.config import CameraConfig
from edge.errors import CameraError, InputError
from edge.slot import LatestSlot
from edge.values import Frame, Image

logger = logging.getLogger(__name__)

JOIN_S = 2.0  # how long `__exit__` waits for a reader that is inside OpenCV
LOGGED_AT_ONCE = 6  # changes of state; in the long run one a minute
LOGGED_PER_SECOND = 1 / 60
MAX_HANGING = 4  # abandoned readers that still hang; at this number no new one is started
STUCK_S = 600.0  # without an attempt because of that; only a new process can free what hangs


class CaptureState(StrEnum):
    """State of a camera: first attempt, delivering frames, between attempts, end of file."""

    OPENING = "opening"
    LIVE = "live"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """A camera's state and counters at one moment.

    reason: why it is lost or ended, in words, without secrets; empty while live.
    frames: read from the source; dropped: of these, replaced by newer ones before use.
    bad_frames: damaged or empty, skipped.
    reconnects: attempts after the first; hung: readers abandoned because a call did not return.
    """

    state: CaptureState = CaptureState.OPENING
    reason: str = ""
    frames: int = 0
    dropped: int = 0
    bad_frames: int = 0
    reconnects: int = 0
    hung: int = 0


class Camera:
    """Frames of one source: `with Camera(name, config) as camera: camera.take(1.0)`.

    name: the camera's name in the config, copied into every frame.
    open_source: opens the source that a config names.
    before: status of the same camera under an older config; its counters continue.
    changed: is notified of every frame and of the end, see `edge.capture.cameras`.
    is_patient: whether an unreadable file is tried again, too, as it is once it has given frames.
    Entering raises InputError, CameraError or ConfigError for faults that no retry can fix, as
    `check_source` does. Enter it only once.
    """

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        *,
        open_source: Opener = open_source,
        before: CaptureStatus | None = None,
        changed: threading.Condition | None = None,
        is_patient: bool = False,
    ) -> None:
        self.name = name
        self._config = config
        self._open_source = open_source
        self._slot = LatestSlot[Frame](changed)
        self._is_lossless = not kind_of(config.source).is_live and not config.realtime
        self._lock = threading.RLock()
        before = before or CaptureStatus()
        self._status = replace(before, state=CaptureState.OPENING, reason="")
        self._dropped_before = before.dropped
        self._is_patient = is_patient
        self._live_since_s = 0.0
        self._unlogged = 0  # changes of state
        self._may_log = Allowance(LOGGED_AT_ONCE, LOGGED_PER_SECOND)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name=f"camera-{name}")

    def __enter__(self) -> Self:
        """Start reading."""
        check_source(self._config)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and join within about JOIN_S; a hanging reader is left to end by itself."""
        self.stop()
        if self._supervisor.is_alive():
            self._supervisor.join()

    def stop(self) -> None:
        """Let the threads end, without waiting for them; no frame is left to take."""
        self._stop.set()
        self._slot.leave()
        self._wake.set()

    @property
    def status(self) -> CaptureStatus:
        """Return state and counters."""
        with self._lock:
            return replace(self._status, dropped=self._dropped_before + self._slot.dropped)

    @property
    def is_over(self) -> bool:
        """Return whether no frame is left to take: the file ended, or the camera was exited."""
        return self._slot.is_over

    @property
    def waiting_since_s(self) -> float | None:
        """Return when the frame that waits was captured, monotonic; None when none waits.

        Minus infinity when `take` would raise.
        """
        frame = self._slot.waiting
        if frame is not None:
            return frame.captured_mono_s
        return float("-inf") if self._slot.has_failed else None

    def take(self, timeout_s: float) -> Frame | None:
        """Return the newest frame; None on timeout, and at once when the camera `is_over`.

        Files read as fast as possible give every frame in order; a frame's age begins here.
        Raises InputError when the file is unreadable from the start, CameraError when too many
        attempts hang, or the exception that ended its threads.
        """
        frame = self._slot.take(timeout_s)
        if frame is not None and self._is_lossless:  # it has waited for its turn, not aged
            return replace(frame, captured_mono_s=time.monotonic())
        return frame

    def _supervise(self) -> None:
        backoff = Backoff(self._config.retry_min_s, self._config.retry_max_s)
        hanging: list[Reader] = []
        tried_s = time.monotonic()
        try:
            while not self._stop.is_set():
                hanging = [reader for reader in hanging if reader.is_alive]
                if len(hanging) < MAX_HANGING:
                    if self._connect(hanging, backoff):
                        return
                    tried_s = time.monotonic()
                elif time.monotonic() - tried_s >= STUCK_S:
                    reason = f"{MAX_HANGING} attempts hang inside its driver or OpenCV"
                    fix = "start the daemon again; if that does not help, check the camera"
                    self._slot.fail(CameraError(f"camera {self.name}: {reason}; {fix}"))
                    return
                self._stop.wait(backoff.next_s())
        except Exception as error:  # noqa: BLE001 - e.g. no thread can start; `take` raises it
            self._slot.fail(error)
        finally:
            self._slot.close()

    def _connect(self, hanging: list[Reader], backoff: Backoff) -> bool:
        """Read until the reader ends; return whether the camera has ended for good."""
        if self._status.state is CaptureState.LOST:
            self._count(reconnects=1)
        reader, outcome = self._read_once()
        if outcome is None:  # stopped by __exit__
            return True
        if outcome.cause is EndCause.END:
            self._change(CaptureState.ENDED, outcome.reason)
            return True
        if outcome.cause is EndCause.HUNG:
            hanging.append(reader)
            self._count(hung=1)
        if self._status.state is CaptureState.LIVE:
            backoff.reset_after(time.monotonic() - self._live_since_s)
        self._change(CaptureState.LOST, outcome.reason)
        is_patient = self._is_patient and isinstance(outcome.error, InputError)
        if outcome.error is None or is_patient:
            return False
        self._slot.fail(outcome.error)
        return True

    def _read_once(self) -> tuple[Reader, Outcome | None]:
        reader = Reader(
            self._config,
            self._open_source,
            lambda bgr, position_s: self._deliver(reader, bgr, position_s),
            lambda: self._count(bad_frames=1),
            self._wake,
        )
        reader.start()
        outcome = None
        while outcome is None and not self._stop.is_set():
            self._wake.wait(reader.patience_s())
            self._wake.clear()
            outcome = reader.outcome()
            if reader.queued_s > self._config.open_timeout_s:
                self._change(CaptureState.LOST, "waits for other cameras, which are being opened")
        if outcome is None:
            reader.stop()
            if not reader.join(JOIN_S):
                logger.warning("camera.abandoned camera=%s", self.name)
        return reader, outcome

    def _deliver(self, reader: Reader, bgr: Image, position_s: float) -> None:
        now_s, utc_s = time.monotonic(), time.time()
        with self._lock:
            if reader.is_stopped:  # abandoned: the supervisor is about to report LOST
                return
            self._change(CaptureState.LIVE, "", at_s=now_s)
            self._is_patient = True
            self._status = replace(self._status, frames=self._status.frames + 1)
            frame_id = self._status.frames
        time_s = position_s if self._is_lossless else now_s
        frame = Frame(self.name, frame_id, bgr, now_s, utc_s, time_s)
        if self._is_lossless:
            self._slot.hand_over(frame)
        else:
            self._slot.put(frame)

    def _count(self, *, bad_frames: int = 0, reconnects: int = 0, hung: int = 0) -> None:
        with self._lock:
            self._status = replace(
                self._status,
                bad_frames=self._status.bad_frames + bad_frames,
                reconnects=self._status.reconnects + reconnects,
                hung=self._status.hung + hung,
            )

    def _change(self, state: CaptureState, reason: str, *, at_s: float = 0.0) -> None:
        """Set the state; called with every frame and every failed attempt."""
        with self._lock:
            is_new = self._status.state is not state
            self._status = replace(self._status, state=state, reason=reason)
            if is_new and state is CaptureState.LIVE:
                self._live_since_s = at_s
            self._unlogged += is_new
            is_logged = self._unlogged > 0 and self._may_log.take()
            status, changes = self._status, self._unlogged
            if is_logged:
                self._unlogged = 0
        if is_logged:  # without the lock: a log may have to wait
            self._log(status, changes)

    def _log(self, status: CaptureStatus, changes: int) -> None:
        """Log a state; changes: since the line before, more than 1 where they were too many."""
        logger.log(
            logging.WARNING if status.state is CaptureState.LOST else logging.INFO,
            "camera.state camera=%s state=%s source=%s reason=%s changes=%d",
            self.name,
            status.state,
            redact(self._config.source),
            status.reason or "-",
            changes,
        )
