"""`benchmark`: measures the real code with the board's dependencies, and describes the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import EXIT_OK, EdgeError, InputError
from models import color_folder, detect_folder
from tools.benchmark import frame_path, invokes, machine, start_up
from tools.benchmark.quantiles import cells, quantiles
from tools.cli import main

ROOT = Path(__file__).parent.parent
FRAMES = 25
QUANTILES = ["p50", "p95", "p99"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the command printed and saved."""
    path = tmp_path_factory.mktemp("benchmark") / "report.json"
    words = ["--models", "color-64", "--threads", "1", "2", "--runs", "5", "--frames", str(FRAMES)]
    done = subprocess.run(
        [sys.executable, "-m", "tools", "benchmark", *words, "--json", str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=True,
    )
    return done.stdout, json.loads(path.read_text())


def test_every_model_has_a_row_per_thread_count(outcome: tuple[str, dict[str, Any]]):
    rows = outcome[1]["invoke"]
    assert [(row["model"], row["threads"]) for row in rows] == [("color-64", 1), ("color-64", 2)]
    assert all(0 < row["p50"] <= row["p95"] <= row["p99"] for row in rows)


def test_every_stage_of_the_frame_path_is_timed(outcome: tuple[str, dict[str, Any]]):
    report = outcome[1]["frame_path"]
    assert report["frames"] == FRAMES
    assert {"motion", "detector", "tracker", "color", "events", "encode"} <= report[
        "stages_ms"
    ].keys()
    for row in (*report["stages_ms"].values(), report["loop_ms"], report["bare_ms"]):
        assert list(row) == QUANTILES
    # A loose bound: other processes disturb both, but never by this much.
    assert 0.5 < report["loop_over_bare_p50"] < 2.5


def test_start_up_and_memory_are_measured(outcome: tuple[str, dict[str, Any]]):
    report = outcome[1]["start_up"]
    assert 0 < report["models_loaded_s"] < report["first_event_s"]
    assert report["frames"] >= 3
    assert 40 < report["rss_mb"] < 200


def test_the_machine_is_described_and_all_is_printed(outcome: tuple[str, dict[str, Any]]):
    printed, report = outcome
    facts = report["machine"]
    assert facts["cpu"]
    assert facts["runtime"].startswith(("ai-edge-litert", "tflite-runtime"))
    row = report["invoke"][1]
    invokes_row = f"{'color-64':<24}{2:>8}{row['parameters']:>12,}{cells(row)}"
    for part in (facts["cpu"], "temperature_c", invokes_row, "loop / bare", "first event after"):
        assert part in printed


def test_only_the_boards_own_dependencies_are_imported():
    script = (
        "import sys, tools.cli, tools.benchmark, tools.validate;"
        "print({'torch', 'onnx', 'matplotlib', 'pycocotools', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "set()"


def test_models_are_timed_alternately(tmp_path: Path):
    folders = [detect_folder(tmp_path), color_folder(tmp_path)]
    rows = invokes.measure(folders, [1], runs=3)
    assert [row["model"] for row in rows] == ["tiny-detect", "tiny-color"]
    assert all("builtin" in row["runtime"] or "xnnpack" in row["runtime"] for row in rows)


def test_a_clip_without_frames_is_named(tmp_path: Path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\0" * 1000)
    with pytest.raises(InputError, match=r"clip\.mp4"):
        frame_path.measure(frame_path.config_with({}, str(clip)), 1)


def test_frames_without_motion_are_detected_too(tmp_path: Path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((48, 64, 3), 90, np.uint8))
    models = {"detect": str(detect_folder(tmp_path)), "color": str(color_folder(tmp_path))}
    frames = 40  # 4 s of clip: the hold time of the motion gate is over
    report = frame_path.measure(frame_path.config_with(models, str(tmp_path)), frames)
    assert report["frames"] == frames
    assert (report["detector"], report["color"]) == ("tiny-detect", "tiny-color")
    assert "detector" in report["stages_ms"]


def test_frame_path_and_start_up_use_the_models_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    detect_folder(tmp_path)
    words = ["benchmark", "--models", "tiny-detect", "--models-dir", str(tmp_path)]
    few = ["--threads", "1", "--runs", "2", "--frames", "3"]
    assert main([*words, *few, "--json", str(tmp_path / "report.json")]) == EXIT_OK
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["frame_path"]["detector"], report["frame_path"]["color"][:6]) == (
        "tiny-detect",
        "color-",
    )
    printed = capsys.readouterr().out
    assert "frame path, ms: tiny-detect" in printed
    assert "start-up: models loaded after" in printed


def test_failing_child_process_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start_up, "CHILD", "raise SystemExit('no object in 3 frames')")
    with pytest.raises(EdgeError, match=r"^start-up: no object in 3"):
        start_up.measure({})
    monkeypatch.setattr(start_up, "CHILD", "1 / 0")
    with pytest.raises(EdgeError, match=r": ZeroDivisionError: division by zero$"):
        start_up.measure({})


def test_the_boards_name_comes_from_the_device_tree(tmp_path: Path):
    tree = tmp_path / "model"
    tree.write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    assert machine.cpu_model(tree) == "Raspberry Pi 4 Model B Rev 1.4"
    assert machine.cpu_model(tmp_path / "none")


def test_quantiles_are_nearest_rank_in_milliseconds():
    row = quantiles([float(ms) for ms in range(100, 0, -1)])
    assert row == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert cells(row) == "    50.000    95.000    99.000"
