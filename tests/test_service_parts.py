"""The parts of the daemon that a reload replaces, with shipped models."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge.cli import doctor
from edge.config import BudgetConfig, CameraConfig, Config, DetectorConfig, LabelConfig
from edge.errors import ConfigError
from edge.pipeline import Thresholds
from edge.service.parts import build_parts, model_infos
from edge.values import Frame
from models import detect_folder

ROOT = Path(__file__).parent.parent


def config_of(tmp_path: Path, **detector: Any) -> Config:
    return Config(
        cameras={"front": CameraConfig(source=0)},
        models_dir=str(tmp_path),
        budget=BudgetConfig(frame_ms=60_000),
        detector=DetectorConfig(**detector),
    )


def test_faster_model_takes_over_with_the_thresholds_in_force(tmp_path: Path) -> None:
    parts = build_parts(config_of(tmp_path, faster_model="yolox-nano-288"))
    names = {role: info.name for role, info in model_infos(parts.interpreters).items()}
    assert names == {
        "detector": "yolox-nano-352", "faster_detector": "yolox-nano-288", "color": "color-160",
    }  # fmt: skip
    parts.governor.record("detector", 1e6)
    bgr = cv2.imread(str(next((ROOT / "models" / "yolox-nano-352").glob("golden.*"))))
    for thresholds, is_seen in ((parts.thresholds, True), (Thresholds(0.99, {}), False)):
        parts.set_thresholds(thresholds)
        frame = Frame("front", 1, np.asarray(bgr), time.monotonic(), time.time(), 0.0)
        result = parts.pipelines["front"].process(frame)
        assert "faster_detector" in result.stage_ms
        assert bool(result.detections) is is_seen


@pytest.mark.parametrize(
    ("model", "faster", "level"),
    [("yolox-nano-480", "yolox-nano-288", "ok"), ("yolox-nano-288", "yolox-nano-480", "warn")],
)
def test_faster_model_that_is_slower_is_named_in_log_and_doctor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, faster: str, level: str
) -> None:
    config = config_of(tmp_path, model=model, faster_model=faster)
    build_parts(config)
    told = [record for record in caplog.messages if record.startswith("model.not_faster detector_")]
    assert len(told) == (level == "warn")
    found = doctor.check_models(config)
    assert found.level == level
    assert re.search(r"; detector [\d.]+ ms, faster_model [\d.]+ ms", found.text)
    assert bool(found.fix) == (level == "warn")


def test_thresholds_hold_for_every_camera(tmp_path: Path) -> None:
    cameras = {name: CameraConfig(source=0) for name in ("front", "door")}
    parts = build_parts(msgspec.structs.replace(config_of(tmp_path), cameras=cameras))
    strict = Thresholds(0.99, {})
    parts.set_thresholds(strict)
    assert [one.thresholds for one in parts.pipelines.values()] == [strict, strict]


def test_detectors_get_their_threads_and_classes_switched_off_are_not_announced(
    tmp_path: Path,
) -> None:
    off = {"car": LabelConfig(enabled=False), "cat": LabelConfig(min_score=0.7)}
    config = config_of(tmp_path, faster_model="yolox-nano-288", threads=2, labels=off)
    door = CameraConfig(source=1, labels=("cat", "car"))
    config = msgspec.structs.replace(config, cameras={**config.cameras, "door": door})
    parts = build_parts(config)
    runtimes = {role: info.runtime for role, info in model_infos(parts.interpreters).items()}
    assert {role: text.split(", ")[-1] for role, text in runtimes.items()} == {
        "detector": "2 thread(s)", "faster_detector": "2 thread(s)", "color": "1 thread(s)",
    }  # fmt: skip
    known = parts.interpreters["detector"].manifest.labels
    assert parts.labels() == {
        "front": tuple(label for label in known if label != "car"), "door": ("cat",)
    }  # fmt: skip


def test_faster_model_for_other_classes_is_refused(tmp_path: Path) -> None:
    detect_folder(tmp_path, "pets", labels=("cat", "dog"))
    with pytest.raises(ConfigError, match=r"faster_model: pets finds cat, dog, but yolox-nano-352"):
        build_parts(config_of(tmp_path, faster_model="pets"))
