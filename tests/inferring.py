"""`edge infer` and `edge-tools infer` with tiny models, and pictures for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edge.cli
import tools.cli
from models import COLOR, DETECT, class_color_folder, color_folder, detect_folder

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "edge" / "assets" / "demo.mp4"
RED, BLUE = (0, 0, 220), (220, 60, 0)


def tiny_models(parent: Path) -> Path:
    """A folder of tiny models of each kind."""
    detect_folder(parent)
    color_folder(parent)
    class_color_folder(parent)
    return parent


class Infer:
    """Runs the command in this process with the tiny models."""

    def __init__(self, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._models = ["--models-dir", str(models_dir), "--color-model", COLOR]
        self._capsys = capsys
        self.complaints: list[str] = []

    def __call__(self, *arguments: object, task: str = "detect") -> tuple[int, Any]:
        model = ["--task", task] + (["--model", DETECT] if task == "detect" else [])
        code = edge.cli.main(["infer", *self._models, *model, *map(str, arguments)])
        out, err = self._capsys.readouterr()
        self.complaints = err.splitlines()
        assert "Traceback" not in err
        return code, json.loads(out) if out else None


class Spread:
    """Runs `edge-tools infer` with the tiny models, in this process or as one of its own."""

    def __init__(self, models_dir: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.output = output
        self.complaints: list[str] = []
        self.summary = ""
        self._models = ["--models-dir", models_dir, "--color-model", COLOR]
        self._capsys = capsys

    def words(self, *arguments: object, task: str = "detect") -> list[str]:
        model = ["--task", task] + (["--model", DETECT] if task == "detect" else [])
        words = ["infer", *self._models, *model, "--output", self.output, *arguments]
        return [str(word) for word in words]

    def __call__(self, *arguments: object, task: str = "detect", workers: int = 1) -> int:
        code = tools.cli.main(self.words("--workers", workers, *arguments, task=task))
        self.summary, complaints = self._capsys.readouterr()
        self.complaints = complaints.splitlines()
        return code

    def start(self, *arguments: object, cwd: Path = ROOT) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tools", *self.words(*arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def lines(self) -> int:
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    @property
    def entries(self) -> list[Any]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]


def street() -> np.ndarray:
    """A red square and a blue one, each on one cell of the tiny detector."""
    bgr = np.zeros((256, 256, 3), np.uint8)
    bgr[64:128, 0:64] = RED
    bgr[128:192, 192:256] = BLUE
    return bgr


def save(path: Path, bgr: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), bgr)
    return path


def video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (256, 256))
    for _ in range(frames):
        writer.write(street())
    writer.release()
    return path
