"""The counters behind `stats`: frames, skips by cause, latency and stage times."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.budget import StageTimes
from edge.capture import CaptureStatus
from edge.values import OVER_BUDGET, FrameResult, SkipCause

LATENCY = "latency"
LATENCY_WINDOW = 512
GONE = ""  # no camera's name


@dataclass(slots=True)
class FrameCounters:
    """What became of a camera's frames: detected, or skipped by cause.

    dropped: replaced before the loop took them; only of cameras that are gone.
    """

    detected: int = 0
    skipped: Counter[SkipCause] = field(default_factory=Counter)
    dropped: int = 0

    def skips(self, status: CaptureStatus) -> dict[str, int]:
        """Return skipped frames by cause; frames replaced before the loop took them are stale."""
        skips = {cause.value: self.skipped[cause] for cause in SkipCause}
        skips[SkipCause.STALE.value] += status.dropped + self.dropped
        return skips


@dataclass(slots=True)
class Counters:
    """Sums since the daemon's start; quantiles over the last frames.

    cameras: what became of frames, by camera; those of all that are gone under GONE.
    """

    cameras: defaultdict[str, FrameCounters] = field(
        default_factory=lambda: defaultdict(FrameCounters)
    )
    detected_faster: int = 0
    late: int = 0
    colors_shed: int = 0
    events: int = 0
    stages: StageTimes = field(default_factory=lambda: StageTimes(LATENCY_WINDOW))

    def add(self, result: FrameResult, latency_ms: float, *, is_late: bool) -> None:
        """Count one processed frame; `latency_ms` is its age when handed over."""
        frames = self.cameras[result.frame.camera]
        if result.skipped is None:
            frames.detected += 1
            self.detected_faster += "faster_detector" in result.stage_ms
            self.late += is_late
            self.stages.add(LATENCY, latency_ms)
        else:
            frames.skipped[result.skipped] += 1
        self.colors_shed += result.colors_shed
        self.events += len(result.events)
        for stage, ms in result.stage_ms.items():
            self.stages.add(stage, ms)

    def forget(self, camera: str, dropped: int) -> None:
        """Keep a removed camera's frames in the sums; one that gets its name begins at 0."""
        gone, mine = self.cameras[GONE], self.cameras.pop(camera, FrameCounters())
        gone.detected += mine.detected
        gone.skipped.update(mine.skipped)
        gone.dropped += dropped

    @property
    def detected(self) -> int:
        """Return on how many frames a detector ran."""
        return sum(frames.detected for frames in self.cameras.values())

    def skips(self, statuses: Mapping[str, CaptureStatus]) -> dict[str, int]:
        """Return the skipped frames by cause, also of cameras that a reload removed."""
        skips = Counter({cause.value: 0 for cause in SkipCause})
        for name in self.cameras.keys() | statuses.keys():
            skips.update(self.cameras[name].skips(statuses.get(name, CaptureStatus())))
        return dict(skips)

    def saved_for_budget(self) -> int:
        """Return how often a frame, a color crop or the better detector was skipped for it."""
        cameras = self.cameras.values()
        skipped = sum(frames.skipped[cause] for frames in cameras for cause in OVER_BUDGET)
        return skipped + self.colors_shed + self.detected_faster
