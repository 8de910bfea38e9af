"""The governor: keeps the age of results within the latency budget by skipping work.

Method: the 95th percentile (nearest rank) of a stage's last times estimates its next cost. Before
the detector runs, the frame's age plus the cost of the detector and the following stages must stay
within `frame_ms`, else a faster detector is tried, if there is one, and then the frame is skipped.
The same check precedes each color crop. A frame that is too old already is `stale`; one that would
become too old is `budget`, or `thermal` while the board is throttled by heat.
A skipped stage is not measured, so its estimate could stay too high forever. Therefore a stage that
does not fit runs once every PROBE_S all the same, and its time replaces the old ones; for each
camera, since the frames of one may always have to wait for those of another. The color
stage, and a detector beside a faster one, probe only on a frame that their fastest run would fit,
since a crop can wait. The last detector probes on any frame: a budget that the board cannot keep
should show in `late`, not in silence.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from edge.values import SkipCause

WINDOW = 64  # times kept per stage: about 3 s at 20 frames/s
QUANTILE = 0.95
PROBE_S = 2.0

Clock = Callable[[], float]


def nearest_rank(ordered: list[float], quantile: float) -> float:
    """Return the smallest value that at least `quantile` (0..1) of sorted values do not exceed."""
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]


class StageTimes:
    """The last times of every stage, milliseconds."""

    def __init__(self, window: int = WINDOW) -> None:
        """Keep `window` times per stage."""
        self._window = window
        self._times: dict[str, deque[float]] = {}
        self._fastest: dict[str, float] = {}

    def add(self, stage: str, ms: float) -> None:
        """Add one time of a stage."""
        self._times.setdefault(stage, deque(maxlen=self._window)).append(ms)
        self._fastest[stage] = min(ms, self._fastest.get(stage, ms))

    def fastest_ms(self, stage: str) -> float:
        """Return a stage's shortest time ever, 0 when it never ran."""
        return self._fastest.get(stage, 0.0)

    def cost_ms(self, stage: str) -> float:
        """Return the estimate of a stage's next time: its QUANTILE, 0 when it never ran."""
        times = self._times.get(stage)
        return nearest_rank(sorted(times), QUANTILE) if times else 0.0

    def usual_ms(self, stage: str) -> float:
        """Return `cost_ms`, but of few times, where that is the longest, the one before it."""
        longest = sorted(self._times.get(stage, ()))[-2:]
        return min([self.cost_ms(stage), *longest[:1]])

    def restart(self, stage: str) -> None:
        """Forget a stage's times, except the fastest."""
        self._times.pop(stage, None)

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Return p50, p95 and p99 of every stage."""
        return {
            stage: {
                f"p{round(100 * quantile)}": round(nearest_rank(sorted(times), quantile), 2)
                for quantile in (0.5, 0.95, 0.99)
            }
            for stage, times in self._times.items()
        }


class Governor:
    """Decides for every frame which stages fit the budget; shared by all cameras."""

    def __init__(self, frame_ms: float, clock: Clock) -> None:
        """Take the budget in milliseconds and a monotonic clock in seconds."""
        self.frame_ms = frame_ms
        self.is_hot = False  # the board is throttled by heat: skips count as `thermal`
        self._clock = clock
        self._times = StageTimes()
        self._waiting_since: dict[tuple[str, str], float] = {}

    def record(self, stage: str, ms: float) -> None:
        """Add a stage's measured time."""
        self._times.add(stage, ms)

    def choose_detector(
        self, captured_mono_s: float, stages: Sequence[str], camera: str
    ) -> str | SkipCause:
        """Return the detector to run on a camera's frame captured then, or why none may.

        stages: the detectors' names, the best first, the fastest last.
        """
        if self._age_ms(captured_mono_s) >= self.frame_ms:
            return SkipCause.STALE
        left_ms = self._left_ms(captured_mono_s)
        for stage in stages:
            if self._allows(stage, left_ms, camera, may_be_late=stage == stages[-1]):
                return stage
        return SkipCause.THERMAL if self.is_hot else SkipCause.BUDGET

    def allows_color(self, captured_mono_s: float, camera: str) -> bool:
        """Return whether one more color crop fits this frame of a camera."""
        return self._allows("color", self._left_ms(captured_mono_s), camera, may_be_late=False)

    def _allows(self, stage: str, left_ms: float, camera: str, *, may_be_late: bool) -> bool:
        if self._times.cost_ms(stage) <= left_ms:
            self._waiting_since.pop((camera, stage), None)
            return True
        may_fit = self._times.fastest_ms(stage) <= left_ms
        return (may_fit or may_be_late) and self._is_probe(stage, camera)

    def is_late(self, captured_mono_s: float) -> bool:
        """Return whether a frame whose result is handed over now exceeds the budget."""
        return self._age_ms(captured_mono_s) > self.frame_ms

    def _age_ms(self, captured_mono_s: float) -> float:
        return 1000 * (self._clock() - captured_mono_s)

    def _left_ms(self, captured_mono_s: float) -> float:
        """Return what a frame's budget leaves for detector and color."""
        # One slow publish at the start should not keep the detector off until 20 times are known.
        after_ms = sum(self._times.usual_ms(stage) for stage in ("tracker", "events", "publish"))
        return self.frame_ms - self._age_ms(captured_mono_s) - after_ms

    def _is_probe(self, stage: str, camera: str) -> bool:
        now_s = self._clock()
        if now_s - self._waiting_since.setdefault((camera, stage), now_s) < PROBE_S:
            return False
        self._waiting_since[camera, stage] = now_s
        self._times.restart(stage)
        return True


@contextmanager
def timed(clock: Clock, stage: str, into: dict[str, float]) -> Iterator[None]:
    """Add the block's duration in milliseconds to `into[stage]`."""
    started_s = clock()
    try:
        yield
    finally:
        into[stage] = into.get(stage, 0.0) + 1000 * (clock() - started_s)
