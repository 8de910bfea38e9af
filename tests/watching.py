"""A pipeline with real tiny models and a fake clock, shown one frame after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge.budget import Governor
from edge.color import ColorModel
from edge.config import CameraConfig, Config, MotionConfig
from edge.detector import Detector
from edge.interpreter import Interpreter
from edge.pipeline import Models, Pipeline, thresholds_of
from edge.values import Detection, EventKind, Frame, FrameResult, Image, ObjectEvent
from fakes import FakeClock
from models import COLOR, DETECT

RED, BLUE, PINK = (0, 0, 220), (220, 60, 0), (180, 130, 255)
INTERVAL_S = 0.1


class SlowDetector(Detector):
    """A real detector that takes `ms` of the fake clock; `sees` is detected in addition."""

    clock: FakeClock
    ms = 0.0
    runs = 0
    sees: tuple[Detection, ...] = ()

    def detect(self, bgr: Image) -> list[Detection]:
        self.runs += 1
        self.clock.advance(self.ms / 1000)
        return [*super().detect(bgr), *self.sees]


class SlowColor(ColorModel):
    """A real color model that takes `ms` of the fake clock."""

    clock: FakeClock
    ms = 0.0
    runs = 0

    label: str | None = None  # of the last crop

    def classify(self, bgr_crop: Image, label: str | None = None) -> list[Any]:
        self.runs += 1
        self.label = label
        self.clock.advance(self.ms / 1000)
        return super().classify(bgr_crop, label)


class Watch:
    """A pipeline that is shown a frame every INTERVAL_S, as long as its work allows."""

    def __init__(self, models_dir: Path, config: Config) -> None:
        self.clock = FakeClock(100.0)
        thresholds = thresholds_of(config)
        self.interpreter = Interpreter.load(models_dir / DETECT)
        self.detector = SlowDetector(self.interpreter, min_score=thresholds.lowest())
        self.faster = SlowDetector(self.interpreter, min_score=thresholds.lowest())
        self.color = SlowColor(Interpreter.load(models_dir / COLOR))
        self.detector.clock = self.faster.clock = self.color.clock = self.clock
        color = self.color if config.color.enabled else None
        detectors = {"detector": self.detector}
        if config.detector.faster_model is not None:
            detectors["faster_detector"] = self.faster
        self.governor = Governor(config.budget.frame_ms, self.clock)
        self.models = Models(detectors, color)
        self.pipeline = Pipeline(
            config.cameras["front"], config, self.models, self.governor, self.clock
        )
        self.events: list[ObjectEvent] = []
        self._frames = 0

    def reload(self, config: Config) -> None:
        """Go on with the pipeline of another config, as the daemon does."""
        old = self.pipeline
        camera = config.cameras["front"]
        models = self.models if config.color.enabled else Models(self.models.detectors, None)
        self.pipeline = Pipeline(camera, config, models, self.governor, self.clock)
        self.pipeline.continue_from(old)

    def show(
        self, bgr: Image, *, age_ms: float = 0.0, is_paused: bool = False, camera: str = "front"
    ) -> FrameResult:
        captured_s = self.clock.now_s
        self.clock.advance(age_ms / 1000)
        self._frames += 1
        frame = Frame(camera, self._frames, bgr, captured_s, 1.7e9, captured_s)
        result = self.pipeline.process(frame, is_paused=is_paused)
        self.events += result.events
        self.clock.now_s = max(self.clock.now_s, captured_s + INTERVAL_S)
        return result

    def show_often(self, bgr: Image, count: int, **options: Any) -> list[FrameResult]:
        return [self.show(bgr, **options) for _ in range(count)]

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


def empty() -> Image:
    return np.zeros((256, 256, 3), np.uint8)


def scene(x: int = 64, y: int = 64, color: tuple[int, int, int] = RED) -> Image:
    bgr = empty()
    bgr[y : y + 64, x : x + 64] = color
    return bgr


def config_of(camera: dict[str, Any] | None = None, **sections: Any) -> Config:
    """Return a config without a motion gate; sections of it, `camera` the camera's keys."""
    sections.setdefault("motion", MotionConfig(enabled=False))
    return Config(cameras={"front": CameraConfig(source=0, **(camera or {}))}, **sections)


def watching(models_dir: Path, camera: dict[str, Any] | None = None, **sections: Any) -> Watch:
    """Return a pipeline; the other arguments are those of `config_of`."""
    return Watch(models_dir, config_of(camera, **sections))
