"""`benchmark-infer`: the command itself against a process that reloads the model per picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import EXIT_NO_INPUT, EXIT_OK
from tools.cli import main


def test_every_way_is_timed_on_every_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = tmp_path / "infer.json"
    words = ["--model", "yolox-nano-352", "--counts", "1", "2", "--json", str(saved)]
    assert main(["benchmark-infer", *words]) == EXIT_OK
    rows = json.loads(saved.read_text())
    ways = ("edge infer", "reload per picture")
    assert [(row["way"], row["pictures"]) for row in rows] == [(w, n) for n in (1, 2) for w in ways]
    assert all(
        row["per_s"] == pytest.approx(row["pictures"] / row["seconds"], 0.05) for row in rows
    )
    assert all(row["picture_ms"]["p50"] / 1000 < row["seconds"] for row in rows[1::2])
    assert "load_1min" in capsys.readouterr().out


def test_a_missing_onnx_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark-infer", "--onnx", str(tmp_path / "none.onnx")]) == EXIT_NO_INPUT
    assert "none.onnx: no such file" in capsys.readouterr().err
