"""`edge-tools validate`: the verdict is the exit code."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from edge import certificate, manifest, model_store
from edge.capture import read_image
from edge.errors import EXIT_CONFIG, EXIT_OK, EXIT_USAGE, ModelError
from edge.values import Image
from models import DATA
from tools import validate
from tools.cli import main
from tools.layer_error import LayerError

SSD = Path(__file__).parents[2] / "shared" / "baselines" / "ssd_mobilenet_v1_coco_uint8.tflite"


@pytest.mark.parametrize("folder", model_store.installed(), ids=lambda folder: folder.name)
def test_shipped_model_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", folder.name]) == EXIT_OK
    printed = capsys.readouterr().out
    assert f"{folder.name}: pass" in printed
    proof = manifest.read(folder).certificate
    assert f"tensors {dict(proof.tensors)}; operators {dict(proof.operators)}\n" in printed


def test_folder_in_the_working_directory_needs_no_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model_store.find("color-64"), tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert main(["validate", "own"]) == EXIT_OK
    assert "own: pass" in capsys.readouterr().out


def test_plot_of_layer_errors_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(validate.layer_error, "compare", lambda *_: [])
    monkeypatch.setattr(
        validate.layer_error, "plot", lambda _errors, _path, title: titles.append(title)
    )
    main(["validate", "color-64", "--float", "tl.tflite", "--plot", "p.png"])
    assert titles == ["color-64 against tl.tflite"]


@pytest.mark.parametrize(("limit", "code"), [("15", EXIT_OK), ("15.1", EXIT_CONFIG)])
def test_the_worst_output_is_held_to_the_limit_on_pictures_in_rgb(
    limit: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(_int8: Path, _original: Path, pictures: list[Image]) -> list[LayerError]:
        assert (pictures[0][:, :, ::-1] == read_image(golden)).all()
        levels = {"inside": 3.0, "cells": 15.0, "color": 20.0}
        return [LayerError(name, snr_db, 1.0, 0.0) for name, snr_db in levels.items()]

    golden = model_store.find("color-64") / "golden.png"
    monkeypatch.setattr(validate.layer_error, "compare", compare)
    words = ["--float", "tl.tflite", "--min-snr-db", limit]
    assert main(["validate", "color-64", *words]) == code
    assert f"--min-snr-db: cells: 15.0 dB, at least {limit}\n" in capsys.readouterr().out


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


def test_model_that_one_kernel_family_cannot_run_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differences(_: Path, *, xnnpack: bool) -> list[str]:
        if not xnnpack:
            raise ModelError("model color-64: the TFLite runtime cannot run it: Node number 4")
        return []

    monkeypatch.setattr(validate.golden, "differences", differences)
    assert main(["validate", "color-64"]) == EXIT_CONFIG
    out = capsys.readouterr().out
    assert "pass  golden picture, xnnpack: " in out
    assert "FAIL  golden picture, builtin kernels: model color-64: the TFLite runtime cannot" in out


def test_model_without_a_golden_picture_fails_and_the_rest_is_validated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "color-64"
    shutil.copytree(model_store.find("color-64"), folder)
    manifest.write(folder, msgspec.structs.replace(manifest.read(folder), golden=None))
    found = tmp_path / "found.json"
    words = ["validate", str(folder), "color-96", "--max-params", "1M", "--json", str(found)]
    assert main(words) == EXIT_CONFIG
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "FAIL  golden picture: its manifest has none; make the folder again" in captured.out
    assert captured.out.endswith("color-96: pass\n")
    first, second = json.loads(found.read_text())
    verdicts = {check["name"]: check["passed"] for check in first["checks"]}
    assert verdicts == {"integer-only": True, "golden picture": False, "--max-params": True}
    assert (first["passed"], second["passed"]) == (False, True)


def test_missing_golden_picture_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "color-64"
    shutil.copytree(model_store.find("color-64"), folder)
    model = manifest.read(folder)
    assert model.golden is not None
    (folder / model.golden.file).unlink()
    assert main(["validate", str(folder)]) == EXIT_CONFIG
    out = capsys.readouterr().out
    assert f"FAIL  golden picture, xnnpack: {folder / model.golden.file}: " in out
    assert f"{folder}: FAIL" in out


@pytest.mark.parametrize(
    ("file", "time"), [("float.tflite", "pass  --max-ms"), ("custom.tflite", "FAIL  --max-ms")]
)
def test_limits_also_apply_to_a_file_that_is_not_integer_only(
    file: str, time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ["--max-params", "0", "--max-ms", "10000", "--min-accuracy", "0.5"]
    assert main(["validate", str(DATA / file), *limits]) == EXIT_CONFIG
    captured = capsys.readouterr()
    for part in ("--max-params: ", time, "FAIL  --min-accuracy"):
        assert part in captured.out
    assert captured.err == ""


@pytest.mark.skipif(not SSD.exists(), reason="the baselines are not here")
def test_float_tensors_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(SSD), "--list"]) == EXIT_CONFIG
    out = capsys.readouterr().out
    assert "tensor 'TFLite_Detection_PostProcess' is float32" in out
    assert "FAIL" in out


def test_missing_file_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(tmp_path / "no.tflite")]) == EXIT_CONFIG
    assert "no.tflite" in capsys.readouterr().err


COLOR = "color-64"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["--max-params", "1M", "--max-ms", "10000", "--min-accuracy", "0.5"], EXIT_OK),
        (["--max-params", "90k"], EXIT_CONFIG),
        (["--max-ms", "0.000001"], EXIT_CONFIG),
        (["--min-accuracy", "0.99"], EXIT_CONFIG),
        (["--max-drop", "0.2", "--float-accuracy", "0.9"], EXIT_OK),
        (["--max-drop", "0.01", "--float-accuracy", "0.9"], EXIT_CONFIG),
        (["--min-accuracy", "0.1", "--metric", "AP50"], EXIT_CONFIG),
        (["--max-drop", "0.01"], EXIT_CONFIG),
    ],
)
def test_exceeded_limit_fails_the_validation(
    limits: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", COLOR, *limits]) == code
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert limits[0] in shown
    assert ("FAIL  " in shown or captured.err != "") == (code != EXIT_OK)


def test_pipe_in_place_of_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "model.tflite"
    os.mkfifo(pipe)
    assert main(["validate", str(pipe)]) == EXIT_CONFIG
    said = capsys.readouterr().err
    assert said == f"edge-tools: {pipe}: not a plain file; name a complete .tflite file\n"


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("--min-snr-db 15", "--float"),
        ("--images . --plot p.png", "--float"),
        ("--min-accuracy 0.5 --float-accuracy 0.9", "--max-drop"),
    ],
)
def test_option_that_would_check_nothing_is_refused(
    words: str, needed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", COLOR, *words.split()]) == EXIT_USAGE
    assert capsys.readouterr().err.endswith(f"means nothing without {needed}\n")


def recorded(folder: Path, **figures: float) -> str:
    """Return a color model's folder with accuracy figures of our own."""
    shutil.copytree(model_store.find(COLOR), folder)
    accuracy = tuple(
        manifest.Accuracy(dataset="set/val", metric=metric, value=value, command="none")
        for metric, value in figures.items()
    )
    manifest.write(folder, msgspec.structs.replace(manifest.read(folder), accuracy=accuracy))
    return str(folder)


@pytest.mark.parametrize(("limit", "code"), [("0.01", EXIT_OK), ("0.009", EXIT_CONFIG)])
def test_accuracy_drop_is_measured_against_the_float_figure_of_the_manifest(
    limit: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = recorded(tmp_path / COLOR, **{"top-1": 0.89, "top-1 float": 0.9})
    assert main(["validate", model, "--max-drop", limit, "--min-accuracy", "0.8"]) == code
    assert f"float 0.9000: 0.0100 lower, at most {limit}" in capsys.readouterr().out


def test_int8_model_better_than_its_original_has_no_drop(tmp_path: Path) -> None:
    model = recorded(tmp_path / COLOR, **{"top-1": 0.89, "top-1 float": 0.8})
    assert main(["validate", model, "--max-drop", "0"]) == EXIT_OK


def test_drop_limit_without_a_float_figure_of_the_same_set_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = recorded(tmp_path / COLOR, **{"top-1": 0.89, "top-1 float": 0.89})
    described = manifest.read(Path(model))
    own, other = described.accuracy
    other = msgspec.structs.replace(other, dataset="other/val")
    manifest.write(Path(model), msgspec.structs.replace(described, accuracy=(own, other)))
    assert main(["validate", model, "--max-drop", "0.5"]) == EXIT_CONFIG
    assert "no 'top-1 float' in its manifest" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "taken"), [(3, "0 1 2"), (31, "0 1 3 5 7"), (160, "0 10 20")])
def test_layers_are_compared_on_pictures_from_the_whole_folder(
    count: int, taken: str, tmp_path: Path
) -> None:
    for number in range(count):
        (tmp_path / f"{number:03}.jpg").touch()
    found = [int(path.stem) for path in validate._pictures(None, tmp_path)]
    assert found[: len(taken.split())] == [int(number) for number in taken.split()]
    assert len(found) == min(count, validate.MAX_PICTURES)
    assert found[-1] >= count - 1 - count // validate.MAX_PICTURES


def test_another_environment_checks_on_its_own_runtime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "proof.json"
    own = ["--tflite-runtime", sys.executable, "--json", str(found)]
    assert main(["validate", COLOR, *own]) == EXIT_OK
    names = [check["name"] for check in json.loads(found.read_text())[0]["checks"]]
    here = [name for name in names if not name.startswith("other")]
    assert [name for name in names if name not in here] == [f"other runtime, {n}" for n in here]
    assert "pass  other runtime, golden picture, builtin kernels" in capsys.readouterr().out


@pytest.mark.parametrize("python", ["no-such-python", "true"])
def test_environment_that_cannot_check_is_named(
    python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", COLOR, "--tflite-runtime", python]) == EXIT_CONFIG
    captured = capsys.readouterr()
    assert f"--tflite-runtime {python}: " in captured.err
    assert captured.err.count("\n") == 1


def test_parameters_are_counted_in_the_file() -> None:
    for folder in model_store.installed():
        count = certificate.parameter_count((folder / "model.tflite").read_bytes())
        assert count == pytest.approx(manifest.read(folder).parameters, rel=0.005)


def test_report_is_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "proof" / "color.json"
    assert main(["validate", COLOR, "--max-params", "1k", "--json", str(path)]) == EXIT_CONFIG
    (report,) = json.loads(path.read_text())
    assert report["passed"] is False
    assert {check["name"]: check["passed"] for check in report["checks"]}["integer-only"]
    model = manifest.read(model_store.find(COLOR))
    assert len(report["tensors"]) == sum(model.certificate.tensors.values())
    assert len(report["operators"]) == sum(model.certificate.operators.values())


@pytest.mark.parametrize("file", ["float.tflite", "float_inside.tflite", "custom.tflite"])
def test_any_file_is_checked_and_its_violations_named(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(DATA / file)]) == EXIT_CONFIG
    assert "FAIL  integer-only: " in capsys.readouterr().out


def test_any_integer_only_file_runs_on_both_kernel_families(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["validate", str(DATA / "detect.tflite")]) == EXIT_OK
    assert "pass  both kernel families run it" in capsys.readouterr().out
