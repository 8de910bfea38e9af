"""Measurements in a process of its own: errors when it crashes, and results kept when stopped."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from classifying import describe
from edge.errors import ModelError
from tools.classifier import answered
from tools.classifier.data import Pictures
from tools.classifier.measure import Measured


def measured(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    *,
    threads: int = 1,
    pictures: str = "hash",
    content: bytes = b"model",
) -> answered.Answered:
    """Measure a model in a process that runs the script instead."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (folder / "model.tflite").write_bytes(content)
    described = describe(labels=("a", "b"), side_px=8, level="IO", file="model.tflite")
    rgb = np.zeros((2, 8, 8, 3), np.uint8)
    data = Pictures(rgb, np.zeros(2, np.int64), ("1", "2"), pictures, folder / "pixels.npy")
    return answered.measure(folder, described, data, threads, folder / "out")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -9 $$", "its process was killed (signal 9)"),
        ("exit 1", "it ended without a message"),
        ("echo Traceback >&2; echo MemoryError: too large >&2; exit 1", "MemoryError: too large"),
    ],
)
def test_crash_of_the_process_is_a_one_line_error_that_names_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    with pytest.raises(ModelError) as raised:
        measured(tmp_path, monkeypatch, script)
    assert str(raised.value) == f"model file {tmp_path / 'model.tflite'}: {message}"


def test_full_disk_is_not_reported_as_a_model_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        measured(tmp_path, monkeypatch, "exit 75")
    assert raised.value.errno == errno.ENOSPC


def test_stopped_run_measures_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Measured(runtime="some", load_ms=1, times_ms=[1], baseline_bytes=1, peak_bytes=2)
    (tmp_path / "found.json").write_bytes(msgspec.json.encode(found))
    np.save(tmp_path / "found.npy", np.eye(2, dtype=np.float32))
    copies = f'cp "{tmp_path}/found.json" "$4"; cp "{tmp_path}/found.npy" "${{4%json}}npy"'
    once = measured(tmp_path, monkeypatch, copies)
    assert once.measured == found
    assert once.answers.tolist() == [[1, 0], [0, 1]]

    again = measured(tmp_path, monkeypatch, "exit 1")
    assert again.measured == found
    for other in ({"threads": 2}, {"pictures": "others"}, {"content": b"another model"}):
        with pytest.raises(ModelError, match="it ended without a message"):
            measured(tmp_path, monkeypatch, "exit 1", **other)
    answered.forget(tmp_path / "out")
    with pytest.raises(ModelError, match="it ended without a message"):
        measured(tmp_path, monkeypatch, "exit 1")
