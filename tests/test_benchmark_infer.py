"""`benchmark-infer`: the command itself against scripts that load, reload, and use ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.config import DetectorConfig
from edge.errors import EXIT_CONFIG, EXIT_NO_INPUT, EXIT_OK
from onnx_network import write_network
from tools.benchmark import infer
from tools.benchmark.frame_path import DEMO_CLIP
from tools.cli import main


def test_every_method_is_timed_for_every_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    network = write_network(tmp_path / "network.onnx")
    saved = tmp_path / "infer.json"
    words = ["--onnx", str(network), "--counts", "1", "3", "1", "--runs", "2", "--json", str(saved)]
    assert main(["benchmark-infer", *words]) == EXIT_OK
    report = json.loads(saved.read_text())
    rows = report["rows"]
    assert report["machine"]["cores"] >= 1
    edge = ("edge infer", f"edge infer --threads {infer.THREADS}")
    ways = (*edge, "loaded once", "reload per picture", "ONNX Runtime, float")
    assert [(row["way"], row["pictures"]) for row in rows] == [
        (way, count) for count in (1, 3, 1) for way in ways
    ]
    for row in rows:
        assert row["per_s"] == pytest.approx(row["pictures"] / row["seconds"], 0.05)
        inside = row.get("picture_ms")
        assert (inside is None) == (row["way"] in edge)
        assert inside is None or 0 < inside["p50"] / 1000 < row["seconds"]
    assert "load_1min" in capsys.readouterr().out


def test_frames_that_cannot_be_written_are_reported(tmp_path: Path):
    (tmp_path / "00001.jpg").mkdir()
    with pytest.raises(IsADirectoryError, match=r"00001\.jpg"):
        infer._write_frames(str(DEMO_CLIP), tmp_path, 2)


@pytest.mark.parametrize(
    ("model", "content", "code", "message"),
    [
        (DetectorConfig().model, None, EXIT_NO_INPUT, "none.onnx: no such file"),
        (DetectorConfig().model, b"no network", EXIT_CONFIG, "not the published yolox_nano.onnx"),
        ("color-64", b"", EXIT_CONFIG, "color-64 is not a YOLOX model"),
    ],
)
def test_unusable_model_or_input_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    content: bytes | None,
    code: int,
    message: str,
):
    pytest.importorskip("onnx")
    file = tmp_path / "none.onnx"
    if content is not None:
        file.write_bytes(content)
    assert main(["benchmark-infer", "--model", model, "--onnx", str(file)]) == code
    assert message in capsys.readouterr().err
