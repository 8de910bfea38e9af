"""Times the whole frame path, stage by stage, with the daemon's own pipeline.

Uses the default config and frames of 640x480, with the motion gate's refresh due at every frame, so
that the gate is timed and every frame is detected. `bare` is the time of the same frame's invokes
alone: the detector's, plus the color model's for each object it ran on, repeated right after the
frame. `loop / bare` shows the overhead of our own code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import edge
from edge import messages, model_store
from edge.budget import Governor, nearest_rank
from edge.capture import open_source
from edge.color import ColorModel
from edge.config import (
    BudgetConfig,
    CameraConfig,
    ColorConfig,
    Config,
    DetectorConfig,
    MotionConfig,
)
from edge.detector import Detector
from edge.errors import EdgeError, InputError
from edge.interpreter import Interpreter
from edge.pipeline import Models, Pipeline, thresholds_of
from edge.values import Frame, Image
from tools.benchmark.quantiles import cells, quantiles

FRAME_SIZE = (640, 480)
WARM_UP = 10
NO_BUDGET_MS = 60_000  # so large that even a slow board skips no stage
FRAME_S = 0.1  # between two frames of the clip
DEMO_CLIP = Path(edge.__file__).parent / "assets" / "demo.mp4"


class CountingInterpreter(Interpreter):
    """An interpreter that counts its invokes."""

    invokes = 0

    def invoke(self) -> None:
        """Run the network and count it."""
        self.invokes += 1
        super().invoke()


def config_with(models: dict[str, str], source: str | None = None) -> Config:
    """Return the default config for a clip, with an unlimited budget.

    models: names or folders by task. source: a video or folder; None: the demo clip.
    """
    return Config(
        cameras={"clip": CameraConfig(source=source or str(DEMO_CLIP), realtime=False)},
        detector=DetectorConfig(model=models.get("detect", DetectorConfig().model)),
        color=ColorConfig(model=models.get("color", ColorConfig().model)),
        motion=MotionConfig(refresh_s=FRAME_S / 2),
        budget=BudgetConfig(frame_ms=NO_BUDGET_MS),
    )


def measure(config: Config, frames: int, models_dir: str | None = None) -> dict[str, Any]:
    """Return quantiles of each stage, the loop and the bare invokes, and their ratio at p50.

    Raises InputError for a source without frames, EdgeError when a frame was not detected.
    """
    run = Rig(config, models_dir)
    for number, bgr in enumerate(images(config.cameras["clip"], frames + WARM_UP)):
        resized = cv2.resize(bgr, FRAME_SIZE, interpolation=cv2.INTER_LINEAR_EXACT)
        run.step(number, np.asarray(resized, dtype=np.uint8))
    return run.report()


class Rig:
    """Runs the pipeline on a clip's frames, and after each frame repeats its invokes alone."""

    def __init__(self, config: Config, models_dir: str | None) -> None:
        self._detector = self._load(config.detector.model, models_dir)
        self._color = self._load(config.color.model, models_dir)
        thresholds = thresholds_of(config)
        self.models = Models(
            {"detector": Detector(self._detector, min_score=thresholds.lowest())},
            ColorModel(self._color),
        )
        self.governor = Governor(config.budget.frame_ms, time.monotonic)
        self.pipeline = Pipeline(
            config.cameras["clip"], config, self.models, self.governor, time.perf_counter
        )
        self._stages: dict[str, list[float]] = {}
        self._loop_ms: list[float] = []
        self._bare_ms: list[float] = []
        self._events = 0

    @staticmethod
    def _load(name: str, models_dir: str | None) -> CountingInterpreter:
        return CountingInterpreter.load(model_store.find(name, models_dir))

    def step(self, number: int, bgr: Image) -> None:
        """Process one frame of the clip, then time its invokes alone."""
        now_s = time.monotonic()
        frame = Frame("clip", number + 1, bgr, now_s, time.time(), number * FRAME_S)
        looks = self._color.invokes
        started_s = time.perf_counter()
        result = self.pipeline.process(frame)
        processed_s = time.perf_counter()
        if result.skipped is not None:
            raise EdgeError(
                f"frame {number + 1} was skipped ({result.skipped}): nothing to compare"
            )
        for event in result.events:
            body = messages.event_body(
                event, result, boot_id="benchmark", now_s=time.monotonic(), clock_synced=None
            )
            messages.encode(body)
        encoded_s = time.perf_counter()
        bare_ms = self._bare(self._color.invokes - looks)
        if number < WARM_UP:
            return
        self._events += len(result.events)
        self._loop_ms.append(1000 * (encoded_s - started_s))
        self._bare_ms.append(bare_ms)
        encode_ms = 1000 * (encoded_s - processed_s)
        for stage, ms in {**result.stage_ms, "encode": encode_ms}.items():
            self._stages.setdefault(stage, []).append(ms)

    def _bare(self, looks: int) -> float:
        started_s = time.perf_counter()
        self._detector.invoke()
        for _ in range(looks):
            self._color.invoke()
        self._color.invokes -= looks
        return 1000 * (time.perf_counter() - started_s)

    def report(self) -> dict[str, Any]:
        """Return the measurements."""
        loop, bare = (nearest_rank(sorted(ms), 0.5) for ms in (self._loop_ms, self._bare_ms))
        return {
            "frames": len(self._loop_ms),
            "events": self._events,
            "detector": self._detector.manifest.name,
            "color": self._color.manifest.name,
            "stages_ms": {stage: quantiles(ms) for stage, ms in self._stages.items()},
            "loop_ms": quantiles(self._loop_ms),
            "bare_ms": quantiles(self._bare_ms),
            "loop_over_bare_p50": round(loop / bare, 3),
        }


def images(camera: CameraConfig, count: int) -> Iterator[Image]:
    """Yield `count` frames of a clip, restarting the clip when it ends.

    Raises InputError for a source without frames.
    """
    done = 0
    while done < count:
        source = open_source(camera)
        before = done
        while done < count and (bgr := source.read()) is not None:
            done += 1
            yield bgr
        source.close()
        if done == before:
            raise InputError(f"{camera.source}: no frames")


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    width, height = FRAME_SIZE
    print(
        f"\nframe path, ms: {report['detector']}, {report['color']}, {report['frames']} frames of "
        f"{width}x{height}, 1 thread\n{'':<24}{'p50':>10}{'p95':>10}{'p99':>10}"
    )
    for stage, row in report["stages_ms"].items():
        print(f"{stage:<24}{cells(row)}")
    print(f"{'whole loop':<24}{cells(report['loop_ms'])}")
    print(f"{'bare invokes':<24}{cells(report['bare_ms'])}")
    print(f"loop / bare at p50      {report['loop_over_bare_p50']:>10.3f}")
