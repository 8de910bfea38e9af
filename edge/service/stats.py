"""Builds the `stats` payload."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edge.capture import CaptureStatus
from edge.health import Condition
from edge.messages import CameraStats, MqttStats, SpoolStats, Stats
from edge.service.counters import LATENCY, Counters, FrameCounters
from edge.spool import SpoolCounters


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of the daemon's parts at one moment, besides `Counters`.

    capture: by camera. paused: the cameras that are.
    """

    capture: Mapping[str, CaptureStatus]
    paused: Collection[str]
    spool: SpoolCounters
    mqtt: MqttStats
    board: Condition


def cameras_text(statuses: Mapping[str, CaptureStatus]) -> str:
    """Return the cameras' states for people."""
    return ", ".join(f"{name} {status.state}" for name, status in statuses.items())


def camera_stats(
    status: CaptureStatus, frames: FrameCounters, rate: float, *, is_paused: bool
) -> CameraStats:
    """Return a camera's part of `stats`; rate: detected frames per second."""
    return CameraStats(
        state=status.state.value,
        paused=is_paused,
        frames_per_s=round(rate, 2),
        detected=frames.detected,
        skipped=frames.skips(status),
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
        self._last_detected: dict[str, int] = {}
        self._last_saved_for_budget = 0

    def make(self, counters: Counters, readings: Readings, now_s: float) -> Stats:
        """Return the payload; rates are since the previous call. now_s: monotonic."""
        board = readings.board
        elapsed_s = max(now_s - self._last_s, 1e-3)
        detected = {name: counters.cameras[name].detected for name in readings.capture}
        rates = {
            name: (count - self._last_detected.get(name, 0)) / elapsed_s
            for name, count in detected.items()
        }
        is_degraded = counters.saved_for_budget() > self._last_saved_for_budget
        self._last_s, self._last_detected = now_s, detected
        self._last_saved_for_budget = counters.saved_for_budget()
        quantiles = counters.stages.quantiles()
        return Stats(
            boot_id=self._boot_id,
            uptime_s=round(now_s - self._started_s, 1),
            frames_per_s=round(sum(rates.values()), 2),
            detected=counters.detected,
            detected_faster=counters.detected_faster,
            skipped=counters.skips(readings.capture),
            late=counters.late,
            colors_shed=counters.colors_shed,
            events=counters.events,
            latency_ms=quantiles.pop(LATENCY, {}),
            stages_ms=quantiles,
            degraded=_cause(board) if is_degraded else "",
            cameras={
                name: camera_stats(
                    status, counters.cameras[name], rates[name], is_paused=name in readings.paused
                )
                for name, status in readings.capture.items()
            },
            spool=spool_stats(readings.spool),
            mqtt=readings.mqtt,
            temperature_c=board.temperature_c,
            cpu_governor=board.cpu_governor,
            cpu_hz=board.cpu_hz,
            load_1min=board.load_1min,
            rss_bytes=board.rss_bytes,
        )


def _cause(board: Condition) -> str:
    """Return why work is being saved: the budget, unless heat or other programs explain it."""
    if board.is_hot:
        return "thermal"
    return "load" if board.is_loaded else "budget"
