"""One frame in, one FrameResult out: motion gate, budget, detector, tracker, color, events.

No threads and no I/O. The governor gets every stage's time and decides what fits the next frame.
When time is short, color crops are shed first; then a faster detector runs, if there is one; then
none, and tracks move on by prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge.budget import Clock, Governor, timed
from edge.color import ColorModel
from edge.color_memory import ColorMemory
from edge.config import CameraConfig, Config, LabelConfig
from edge.detector import Detector
from edge.errors import ConfigError
from edge.events import EventLogic
from edge.geometry import contains, foot_point
from edge.motion import MotionGate
from edge.tracker import Tracker
from edge.values import Box, Detection, Frame, FrameResult, Image, SkipCause, Track

# A followed object may fall to this share of its class's threshold before it counts as unseen.
KEEP_RATIO = 0.5
MIN_CROP_PX = 4


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models: detectors by stage, the best first; color is None when disabled."""

    detectors: Mapping[str, Detector]
    color: ColorModel | None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which detections count."""

    min_score: float
    labels: Mapping[str, LabelConfig]

    def of(self, label: str) -> float:
        """Return the score from which a detection of a class makes an object."""
        own = self.labels.get(label)
        return self.min_score if own is None or own.min_score is None else own.min_score

    def lowest(self) -> float:
        """Return the score below which no detection of any class is used."""
        own = [label.min_score for label in self.labels.values() if label.min_score is not None]
        return KEEP_RATIO * min([self.min_score, *own])

    def keeps(self, detection: Detection) -> bool:
        """Return whether a detection is large enough, of an enabled class, and not too weak."""
        own = self.labels.get(detection.label, _ANY)
        box_px = detection.box_px
        return (
            own.enabled
            and box_px.width >= own.min_width_px
            and box_px.height >= own.min_height_px
            and detection.score >= KEEP_RATIO * self.of(detection.label)
        )


_ANY = LabelConfig()


def thresholds_of(config: Config) -> Thresholds:
    """Return the thresholds that a config gives; a command may change them later."""
    return Thresholds(config.detector.min_score, config.detector.labels)


def check_labels(config: Config, known: Sequence[str]) -> None:
    """Raise ConfigError when the config names a class that the detector does not have."""
    named = {f"detector.labels.{label}": label for label in config.detector.labels}
    for name, camera in config.cameras.items():
        named |= {f"cameras.{name}.labels: {label}": label for label in camera.labels or ()}
    for place, label in named.items():
        if label not in known:
            raise ConfigError(
                f"{place}: the model {config.detector.model} has no such class; "
                f"known: {', '.join(known)}"
            )


def warm_up(models: Models, governor: Governor, clock: Clock, bgr: Image) -> dict[str, float]:
    """Run all models on an image a few times, so that the governor knows their cost.

    Returns each stage's shortest time, milliseconds.
    """
    runs = []
    for _ in range(3):
        stages: dict[str, float] = {}
        for stage, detector in models.detectors.items():
            with timed(clock, stage, stages):
                detector.detect(bgr)
        if models.color is not None:
            with timed(clock, "color", stages):
                models.color.classify(bgr)
        runs.append(stages)
    for stage, ms in runs[-1].items():  # the first ones have cold caches
        governor.record(stage, ms)
    return {stage: min(run[stage] for run in runs) for stage in runs[-1]}


class Pipeline:
    """The stages of one camera; the models and the governor are shared between cameras."""

    def __init__(
        self,
        camera: CameraConfig,
        config: Config,
        models: Models,
        governor: Governor,
        clock: Clock,
        *,
        track_ids: Iterator[int] | None = None,
    ) -> None:
        """Take the camera's and the whole config.

        clock: monotonic, in seconds. track_ids: of new tracks, as `Tracker` takes them.
        """
        self.thresholds = thresholds_of(config)
        self._config = config
        self._models = models
        self._governor = governor
        self._clock = clock
        self._masks = camera.masks
        self._motion = camera.motion or config.motion
        self._labels = camera.labels
        self._zones = camera.zones
        self._tracker = Tracker(config.tracker, track_ids)
        self._unknown_below = models.color.manifest.decoder.unknown_below if models.color else 0.0
        self._colors = ColorMemory(config.color, unknown_below=self._unknown_below)
        self._events = EventLogic(config.events, camera.zones)
        self._reset_gate()

    def _reset_gate(self) -> None:
        """Let the detector run on the next frame, with or without motion."""
        self._gate = MotionGate(self._motion, self._masks)
        self._detected_s = float("-inf")

    def continue_from(self, old: Pipeline) -> None:
        """Follow the objects of the same camera's older pipeline; call it before the first frame.

        The older one must not be used any longer.
        """
        self._tracker, self._events = old._tracker, old._events
        self._tracker.use(self._config.tracker)
        self._events.use(self._config.events, self._zones)
        if self._color_terms == old._color_terms:
            self._colors = old._colors
            self._colors.use(self._config.color, unknown_below=self._unknown_below)

    @property
    def _color_terms(self) -> Sequence[str]:
        return self._models.color.manifest.labels if self._models.color else ()

    def finish(self, frame: Frame) -> FrameResult:
        """Return an `end` for every object, on the last frame; none is followed any longer.

        An object still present when frames come again is detected at once and gets a new id.
        """
        events = tuple(self._events.finish())
        self._reset_gate()
        self._tracker.clear()
        return FrameResult(frame, None, detections=(), tracks=(), events=events)

    def set_thresholds(self, thresholds: Thresholds, models: Models) -> None:
        """Use other thresholds; the detectors are made for `thresholds.lowest()`."""
        self.thresholds = thresholds
        self._models = models

    def process(self, frame: Frame, *, is_paused: bool = False) -> FrameResult:
        """Return a frame's detections, tracks and events.

        is_paused: a command has paused the detector.
        """
        stages: dict[str, float] = {}
        chosen = SkipCause.PAUSED if is_paused else self._choose_detector(frame, stages)
        skipped = chosen if isinstance(chosen, SkipCause) else None
        detections = () if skipped else self._detect(frame, chosen, stages)
        with timed(self._clock, "tracker", stages):
            tracks = self._follow(frame, skipped, detections)
        shed = self._look_at_colors(frame, tracks, stages)
        with timed(self._clock, "events", stages):
            events = self._events.update(tracks, self._colors.colors, frame.time_s, frame.size)
            self._colors.forget_all_but({track.track_id for track in tracks})
        for stage, ms in stages.items():
            if stage != "color":  # recorded crop by crop
                self._governor.record(stage, ms)
        return FrameResult(
            frame=frame,
            skipped=skipped,
            detections=tuple(d for d in detections if d.score >= self.thresholds.of(d.label)),
            tracks=tuple(tracks),
            events=tuple(events),
            colors_shed=shed,
            stage_ms=stages,
        )

    def _choose_detector(self, frame: Frame, stages: dict[str, float]) -> str | SkipCause:
        """Return the stage of the detector to run, or why none runs."""
        with timed(self._clock, "motion", stages):
            is_moving = self._is_moving(frame)
        if not is_moving:
            return SkipCause.MOTION
        detectors = [*self._models.detectors]
        return self._governor.choose_detector(frame.captured_mono_s, detectors, frame.camera)

    def _is_moving(self, frame: Frame) -> bool:
        if not self._motion.enabled:
            return True
        is_moving = self._gate.update(frame.bgr, frame.time_s).is_moving
        is_due = frame.time_s - self._detected_s >= self._motion.refresh_s
        return is_moving or is_due or self._tracker.has_lost  # one miss must not end what rests

    def _detect(self, frame: Frame, stage: str, stages: dict[str, float]) -> tuple[Detection, ...]:
        self._detected_s = frame.time_s
        with timed(self._clock, stage, stages):
            detections = self._models.detectors[stage].detect(frame.bgr)
        return tuple(
            detection
            for detection in detections
            if (self._labels is None or detection.label in self._labels)
            and self.thresholds.keeps(detection)
            and not self._is_masked(detection.box_px, frame.size)
        )

    def _is_masked(self, box_px: Box, frame_size: tuple[int, int]) -> bool:
        point = foot_point(box_px.normalized(frame_size))
        return any(contains(mask, point) for mask in self._masks)

    def _follow(
        self, frame: Frame, skipped: SkipCause | None, detections: tuple[Detection, ...]
    ) -> list[Track]:
        if skipped is None:
            return self._tracker.update(detections, frame.time_s, self.thresholds.of)
        if skipped in (SkipCause.MOTION, SkipCause.PAUSED):
            return self._tracker.hold(frame.time_s)
        return self._tracker.predict(frame.time_s)

    def _look_at_colors(
        self, frame: Frame, tracks: Sequence[Track], stages: dict[str, float]
    ) -> int:
        """Run the color model on the tracks that are due; return how many did not fit."""
        model = self._models.color
        if model is None:
            return 0
        shed = 0
        seen_now = [track for track in tracks if track.last_seen_s == frame.time_s]
        for track in self._colors.due(seen_now, frame.time_s):
            if not self._governor.allows_color(frame.captured_mono_s, frame.camera):
                shed += 1
                continue
            bgr_crop = crop(frame.bgr, track.box_px)
            if bgr_crop is None:
                continue
            own: dict[str, float] = {}
            with timed(self._clock, "color", own):
                scores = model.classify(bgr_crop, track.label)
                self._colors.add(track.track_id, scores, frame.time_s)
            self._governor.record("color", own["color"])
            stages["color"] = stages.get("color", 0.0) + own["color"]
        return shed


def crop(bgr: Image, box_px: Box) -> Image | None:
    """Return the part of an image in a box as a view, clipped to the image.

    bgr: uint8, (height, width, 3).
    None when a side of the clipped box is shorter than MIN_CROP_PX.
    """
    height, width = bgr.shape[:2]
    left, top, right, bottom = map(round, box_px.corners)
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if right - left < MIN_CROP_PX or bottom - top < MIN_CROP_PX:
        return None
    return bgr[top:bottom, left:right]
