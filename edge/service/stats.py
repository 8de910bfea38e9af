"""Builds the `stats` payload."""

from __future__ import annotations

from dataclasses import dataclass

from edge.capture import CaptureStatus
from edge.health import Condition
from edge.messages import CameraStats, SpoolStats, Stats
from edge.service.counters import LATENCY, Counters
from edge.spool import SpoolCounters


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of the daemon's parts at one moment, besides `Counters`.

    camera: its name. mqtt: `Publisher.counters`.
    """

    camera: str
    capture: CaptureStatus
    is_paused: bool
    spool: SpoolCounters
    mqtt: dict[str, int | float | str]
    board: Condition


def camera_stats(status: CaptureStatus, *, is_paused: bool) -> CameraStats:
    """Return a camera's part of `stats`."""
    return CameraStats(
        state=status.state.value,
        paused=is_paused,
        frames=status.frames,
        bad_frames=status.bad_frames,
        reconnects=status.reconnects,
        hung=status.hung,
    )


def spool_stats(counters: SpoolCounters) -> SpoolStats:
    """Return the spool's part of `stats`."""
    return SpoolStats(
        waiting=counters.waiting,
        lost=counters.lost,
        used_bytes=counters.used_bytes,
        written_bytes=counters.written_bytes,
        failure=counters.failure,
    )


class StatsMaker:
    """Makes `stats` from the parts' counters; remembers the last values to compute rates."""

    def __init__(self, boot_id: str, now_s: float) -> None:
        self._boot_id = boot_id
        self._started_s = self._last_s = now_s
        self._last_detected = 0
        self._last_saved_for_budget = 0

    def make(self, counters: Counters, readings: Readings, now_s: float) -> Stats:
        """Return the payload; rates are since the previous call. now_s: monotonic."""
        board, status = readings.board, readings.capture
        elapsed_s = max(now_s - self._last_s, 1e-3)
        rate = (counters.detected - self._last_detected) / elapsed_s
        is_degraded = counters.saved_for_budget() > self._last_saved_for_budget
        self._last_s, self._last_detected = now_s, counters.detected
        self._last_saved_for_budget = counters.saved_for_budget()
        quantiles = counters.stages.quantiles()
        return Stats(
            boot_id=self._boot_id,
            uptime_s=round(now_s - self._started_s, 1),
            frames_per_s=round(rate, 2),
            detected=counters.detected,
            detected_faster=counters.detected_faster,
            skipped=counters.skips(status),
            late=counters.late,
            colors_shed=counters.colors_shed,
            events=counters.events,
            latency_ms=quantiles.pop(LATENCY, {}),
            stages_ms=quantiles,
            degraded=("thermal" if board.is_hot else "budget") if is_degraded else "",
            cameras={readings.camera: camera_stats(status, is_paused=readings.is_paused)},
            spool=spool_stats(readings.spool),
            mqtt=readings.mqtt,
            temperature_c=board.temperature_c,
            cpu_governor=board.cpu_governor,
            cpu_hz=board.cpu_hz,
            load_1min=board.load_1min,
            rss_bytes=board.rss_bytes,
        )
