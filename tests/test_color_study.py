"""The study's networks: their sizes, a tiny run of some, resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from disk import full_disk
from edge.errors import EXIT_FAILURE, InputError
from tools.cli import main
from tools.color.study import command
from tools.color.study.measure import Crops, score, train
from tools.color.study.networks import STUDY, Vgg16, _planes

ROOT = Path(__file__).parents[1]
FEW = ("single", "ours, fast")
torch.set_num_threads(1)
COLORS = {"red": (30, 30, 200), "blue": (200, 60, 30)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of flat red and blue pictures, 40 to train on and 4 to test with."""
    folder = tmp_path / "data" / "color"
    folder.mkdir(parents=True)
    rows = []
    for number in range(44):
        name = ("red", "blue")[number % 2]
        file = f"{number}.png"
        cv2.imwrite(str(folder / file), np.full((20, 20, 3), COLORS[name], np.uint8))
        split = "val" if number >= 40 else "train"
        rows.append({"file_name": file, "split": split, "color": name, "source": "carpanel"})
    (folder / "labels.json").write_text(json.dumps(rows))
    return folder.parent


def study(data: Path, *words: str) -> int:
    out = data.parent / "out"
    return main(["color", "study", "--data", str(data), "--output", str(out), *words])


@pytest.mark.parametrize("name", [name for name, one in STUDY.items() if one.weights_m])
def test_rebuilt_networks_have_the_published_number_of_weights(name: str) -> None:
    with torch.device("meta"):
        # A selection of planes is fixed: nothing of it is made on the meta device.
        weights = sum(weight.numel() for weight in STUDY[name].make().parameters())
    assert weights / 1e6 == pytest.approx(STUDY[name].weights_m, rel=0.01)


def test_two_branch_network_feeds_each_branch_other_planes() -> None:
    planes = torch.rand(1, 6, 4, 4)
    assert torch.equal(_planes(0)(planes), planes[:, :3])
    assert torch.equal(_planes(3)(planes), planes[:, 3:])


def test_baseline_process_has_the_runtime_in_memory() -> None:
    script = (
        "import sys; from tools.color.study import peak; peak.main([])\nprint(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    figures, modules = done.stdout.splitlines()
    assert json.loads(figures)["median_ms"] == 0
    assert "'ai_edge_litert.interpreter'" in modules or "'tflite_runtime.interpreter'" in modules


def test_study_measures_networks_and_resumes_where_it_stopped(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--epochs", "1", "--only")
    assert study(data, *words, FEW[0]) == 0
    row = json.loads((data.parent / "out" / "single" / "row.json").read_text())["row"]
    assert row["weights"] == 1_279_819
    assert 1_000_000 < row["bytes_int8"] < 1_500_000
    assert row["int8_ms"] > 0
    assert row["peak_mb"] > 0.5  # its own weights are 1.3 MB
    assert 0 <= row["test_accuracy"] <= 1

    measured = []
    real = command.measure
    monkeypatch.setattr(
        command, "measure", lambda *given: measured.append(given[0]) or real(*given)
    )
    assert study(data, *words, *FEW) == 0
    assert measured == [STUDY[FEW[1]]]
    table = capsys.readouterr().out
    assert "1.28 M" in table
    assert "0.10 M" in table
    assert "float ms (PyTorch)" in " ".join(table.replace("┃", " ").split())


def test_other_labels_are_measured_again(data: Path) -> None:
    few = ("--epochs", "1", "--limit", "20", "--only", "single")
    assert study(data, *few) == 0
    row = data.parent / "out" / "single" / "row.json"
    first = row.read_bytes()
    labels = data / "color" / "labels.json"
    labels.write_text(labels.read_text().replace("red", "pink"))
    assert study(data, *few) == 0
    assert row.read_bytes() != first


def test_row_lost_to_a_full_disk_is_measured_again(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = command.Row(1, 1, 1.0, 1.0, 1.0, None, None, None, None, 1.0)
    monkeypatch.setattr(command, "crops", lambda *_: None)
    monkeypatch.setattr(command, "measure", lambda *_: row)
    with full_disk(10):
        assert study(data, "--only", FEW[1]) == EXIT_FAILURE
    assert "File too large; make room" in capsys.readouterr().err
    assert study(data, "--only", FEW[1]) == 0


def test_transfer_without_its_weights_is_timed_but_not_trained(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def measured(*given: Any) -> command.Row:
        asked.append(given[3])  # epochs
        return command.Row(1, 1, 1.0, 1.0, 1.0, None, None, None, None, 1.0)

    monkeypatch.setattr(command, "crops", lambda *_: None)
    monkeypatch.setattr(command, "_network", lambda *_: None)
    monkeypatch.setattr(command, "measure", measured)
    assert study(data, "--epochs", "2", "--only", "VGG16 transfer", "single") == 0
    assert asked == [0, 2]


def test_a_studied_network_learns() -> None:
    torch.manual_seed(1)
    levels = np.zeros((32, 32, 32, 3), np.uint8)
    levels[::2, ..., 0] = levels[1::2, ..., 2] = 200
    shares = np.zeros((32, 11), np.float32)
    shares[::2, 3] = shares[1::2, 7] = 1
    network = STUDY["single"].make()
    train(network, Crops(levels, shares), 3)
    assert score(network, Crops(levels, shares))[1] == 1.0


def test_transfer_row_without_weights_names_the_missing_file() -> None:
    row = command.Row(1, 1, 1.0, 1.0, 1.0, None, None, None, None, 1.0)
    assert command.UNTRAINED in command._cells(row, None)


def test_files_without_vgg16_weights_are_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = Vgg16()
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    for path in (tmp_path / "none.pth", other):
        with pytest.raises(InputError, match="no VGG16 weights"):
            network.load_imagenet(path)


def test_too_few_crops_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(data, "--limit", "1") == 66
    assert "raise --limit" in capsys.readouterr().err
    path = data / "color" / "labels.json"
    path.write_text(json.dumps(json.loads(path.read_text())[-5:]))
    assert study(data) == 66
    assert "too few; label more" in capsys.readouterr().err
