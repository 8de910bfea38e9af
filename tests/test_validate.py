"""`edge-tools validate`: the verdict is the exit code."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from edge import manifest, model_store
from edge.errors import EXIT_CONFIG, EXIT_OK
from tools.cli import main

SSD = Path(__file__).parents[2] / "shared" / "baselines" / "ssd_mobilenet_v1_coco_uint8.tflite"


@pytest.mark.parametrize("folder", model_store.installed(), ids=lambda folder: folder.name)
def test_shipped_model_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", folder.name]) == EXIT_OK
    assert f"{folder.name}: pass" in capsys.readouterr().out


def test_another_golden_result_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "color-64"
    shutil.copytree(model_store.find("color-64"), folder)
    model = manifest.read(folder)
    assert model.golden is not None
    wrong = dict.fromkeys(model.golden.shares, 1 / 11)
    changed = msgspec.structs.replace(model.golden, shares=wrong)
    manifest.write(folder, msgspec.structs.replace(model, golden=changed))
    assert main(["validate", str(folder)]) == EXIT_CONFIG
    assert "expected 0.091" in capsys.readouterr().out


@pytest.mark.skipif(not SSD.exists(), reason="the baselines are not here")
def test_float_tensors_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(SSD), "--list"]) == EXIT_CONFIG
    out = capsys.readouterr().out
    assert "tensor 'TFLite_Detection_PostProcess' is float32" in out
    assert "FAIL" in out


def test_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path / "no.tflite")]) == EXIT_CONFIG
    assert "no.tflite" in capsys.readouterr().err
