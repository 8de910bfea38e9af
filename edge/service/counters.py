"""The counters behind `stats`: frames, skips by cause, latency and stage times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge.budget import StageTimes
from edge.capture import CaptureStatus
from edge.values import FrameResult, SkipCause

LATENCY = "latency"
LATENCY_WINDOW = 512


@dataclass(slots=True)
class Counters:
    """Sums since the daemon's start; quantiles over the last frames."""

    detected: int = 0
    detected_faster: int = 0
    late: int = 0
    colors_shed: int = 0
    events: int = 0
    skipped: Counter[SkipCause] = field(default_factory=Counter)
    stages: StageTimes = field(default_factory=lambda: StageTimes(LATENCY_WINDOW))

    def add(self, result: FrameResult, latency_ms: float, *, is_late: bool) -> None:
        """Count one processed frame; `latency_ms` is its age when handed over."""
        if result.skipped is None:
            self.detected += 1
            self.detected_faster += "faster_detector" in result.stage_ms
            self.late += is_late
            self.stages.add(LATENCY, latency_ms)
        else:
            self.skipped[result.skipped] += 1
        self.colors_shed += result.colors_shed
        self.events += len(result.events)
        for stage, ms in result.stage_ms.items():
            self.stages.add(stage, ms)

    def skips(self, status: CaptureStatus) -> dict[str, int]:
        """Return skipped frames by cause; frames replaced before the loop took them are stale."""
        skips = {cause.value: self.skipped[cause] for cause in SkipCause}
        skips[SkipCause.STALE.value] += status.dropped
        return skips

    def saved_for_budget(self) -> int:
        """Return how often a frame, a color crop or the better detector was skipped for it."""
        causes = (SkipCause.BUDGET, SkipCause.THERMAL, SkipCause.STALE)
        skipped = sum(self.skipped[cause] for cause in causes)
        return skipped + self.colors_shed + self.detected_faster
