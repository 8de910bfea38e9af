"""Errors of a measurement whose process crashes."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from edge.errors import ModelError
from tools.classifier import answered
from tools.classifier.data import Pictures
from tools.classifier.description import Description, Training


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> answered.Answered:
    """Measure a model in a process that runs the script instead."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (folder / "model.tflite").write_bytes(b"model")
    described = Description(
        labels=("a", "b"),
        side_px=8,
        backbone="",
        parameters=1,
        level="IO",
        file="model.tflite",
        train_sha256="",
        training=Training(),
    )
    rgb = np.zeros((2, 8, 8, 3), np.uint8)
    pictures = Pictures(rgb, np.zeros(2, np.int64), ("1", "2"), "hash", folder / "pixels.npy")
    return answered.measure(folder, described, pictures, 1, folder / "out")


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
