"""`edge-tools evaluate detect` on models, baselines and kernels, and its usage errors."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from coco_sets import HERE, MODEL, annotation, golden_set, write_set
from edge import manifest
from edge.errors import EXIT_CONFIG, EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE
from edge.interpreter import Interpreter
from tools import tracking
from tools.benchmark import timing
from tools.cli import main
from tools.evaluate import command, subjects

ROOT = Path(__file__).parents[1]
BASELINES = ROOT.parent / "shared" / "baselines"


def run(folder: Path, *words: str) -> int:
    data = ["--annotations", str(folder / "some.json"), "--images", str(folder)]
    return main(["evaluate", "detect", *words, *data, "--runs", "1"])


def test_command_measures_and_records_a_model_folder(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    golden_set(tmp_path)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = [str(model), "--annotations", str(tmp_path / "some.json")]
    arguments += ["--images", str(tmp_path), "--json", str(tmp_path / "out.json"), "--record"]
    store = f"sqlite:///{tmp_path}/experiments.db"
    arguments += ["--tracking-uri", store]
    assert command.run(parser.parse_args(arguments)) == 0
    (figures,) = json.loads((tmp_path / "out.json").read_text())["models"]
    assert figures["ap50"] >= 0.8
    recorded = {item.metric: item for item in manifest.read(model).accuracy}
    assert recorded["AP50"].value == figures["ap50"]
    assert recorded["AP50"].command == (
        f"edge-tools evaluate detect models/model --annotations {tmp_path}/some.json "
        f"--images {tmp_path}"
    )
    assert (
        f"| person | {figures['classes']['person']['objects']} |" in (model / "CARD.md").read_text()
    )
    card = (model / "CARD.md").read_text()
    assert "| object size | objects |" in card
    assert "- **Good at**" in card
    assert "](seen.jpg)" in card
    assert (model / "seen.jpg").is_file()
    if importlib.util.find_spec("mlflow") is not None:
        from mlflow.tracking import MlflowClient

        with tracking._quiet():
            (kept,) = MlflowClient(tracking_uri=store).search_runs(["1"])
        assert kept.data.metrics["model AP50"] == pytest.approx(figures["ap50"])
        assert kept.data.params["data_sha256"] == tracking.hash_of([tmp_path / "some.json"])
        assert kept.info.status == "FINISHED"


def test_several_models_are_compared_with_plots_pictures_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_set(tmp_path)
    out = tmp_path / "out"
    words = [str(MODEL), "yolox-nano-480", "--reference", "yolox-nano-480"]
    words += ["--csv", str(out / "t.csv"), "--json", str(out / "t.json")]
    assert run(tmp_path, *words, "--plots", str(out), "--pictures", str(out)) == EXIT_OK
    small, large = json.loads((out / "t.json").read_text())["models"]
    assert large["relative_time"] == 1.0
    ratio = small["invoke_ms"]["p50"] / large["invoke_ms"]["p50"]
    assert small["relative_time"] == pytest.approx(ratio, rel=0.01)
    assert small["classes"]["person"]["objects"] >= 4
    rows = list(csv.DictReader((out / "t.csv").read_text().splitlines()))
    assert {row["model"] for row in rows} == {"yolox-nano-352", "yolox-nano-480"}
    assert {row["group"] for row in rows} == {"all", "classes", "sizes"}
    names = {path.name for path in out.iterdir()}
    for model in ("yolox-nano-352", "yolox-nano-480"):
        assert {f"{model}.jpg", f"{model}-confusion.png", f"{model}-precision-recall.png"} <= names
    assert "time, relative" in capsys.readouterr().out


def test_resized_model_is_timed_at_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path, [{}], [annotation(1, HERE)])
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((360, 640, 3), np.uint8))
    loaded: list[Interpreter] = []
    sizes: list[tuple[int, int]] = []
    load, resize, measure = Interpreter.load, Interpreter.resize, timing.measure

    def loads(folder: Path, **how: Any) -> Interpreter:
        loaded.append(load(folder, **how))
        return loaded[-1]

    def resizes(self: Interpreter, size: tuple[int, int]) -> None:
        sizes.append(size)
        resize(self, size)

    def measures(*what: Any) -> dict[str, dict[str, float]]:
        sizes.append(loaded[0].input_size)
        return measure(*what)

    monkeypatch.setattr(Interpreter, "load", loads)
    monkeypatch.setattr(Interpreter, "resize", resizes)
    monkeypatch.setattr(timing, "measure", measures)
    assert run(tmp_path, str(MODEL)) == EXIT_OK
    own = loaded[0].manifest.input.size
    assert len(loaded) == 1
    assert sizes[0] != own
    assert sizes[-1] == own


def write_both_classes(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write the golden set with an object of its second class; return its file and content."""
    golden_set(folder)
    path = folder / "some.json"
    document = json.loads(path.read_text())
    second = document["categories"][1]["id"]
    document["annotations"].append(annotation(second, HERE, id=99, area=400.0, iscrowd=0))
    path.write_text(json.dumps(document))
    return path, document


def test_classes_that_a_model_lacks_are_reported_and_no_common_class_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, document = write_both_classes(tmp_path)
    person, other = document["categories"]
    other["name"] = "forklift"
    path.write_text(json.dumps(document))
    assert run(tmp_path, str(MODEL), "--json", str(tmp_path / "out.json")) == EXIT_OK
    assert "left out, as no model knows them: forklift" in capsys.readouterr().err
    (figures,) = json.loads((tmp_path / "out.json").read_text())["models"]
    assert list(figures["classes"]) == ["person"]
    assert figures["ap50"] == figures["classes"]["person"]["ap50"]
    person["name"] = "pedestrian"
    path.write_text(json.dumps(document))
    assert run(tmp_path, str(MODEL)) == EXIT_NO_INPUT
    assert "does not know pedestrian, forklift: no class of " in capsys.readouterr().err


def test_a_class_that_only_another_model_knows_is_0_in_the_mean_but_not_in_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, document = write_both_classes(tmp_path)
    person, other = document["categories"]
    narrow = tmp_path / "narrow"
    shutil.copytree(MODEL, narrow)
    stored = json.loads((narrow / "manifest.json").read_text())
    stored["labels"][stored["labels"].index(other["name"])] = "forklift"
    (narrow / "manifest.json").write_text(json.dumps(stored))
    (narrow / "CARD.md").unlink()
    options = ("--json", str(tmp_path / "out.json"), "--record")
    models = [narrow, shutil.copytree(MODEL, tmp_path / "wide")]
    assert run(tmp_path, *map(str, models), *options) == EXIT_OK
    assert f"narrow does not know {other['name']}: 0 in the means" in capsys.readouterr().err
    figures = json.loads((tmp_path / "out.json").read_text())["models"][0]
    person_ap50 = figures["classes"][person["name"]]["ap50"]
    assert figures["ap50"] == pytest.approx(person_ap50 / 2, abs=1e-4)
    recorded = {item.metric: item.value for item in manifest.read(narrow).accuracy}
    assert recorded["AP50"] == person_ap50


def test_kernels_are_compared_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_set(tmp_path)
    words = [str(MODEL), "--kernels", "all", "--json", str(tmp_path / "k.json")]
    assert run(tmp_path, *words) == EXIT_OK
    first, second = json.loads((tmp_path / "k.json").read_text())["kernels"]
    assert abs(first["ap50"] - second["ap50"]) <= 0.003
    assert first["objects"] >= 20
    assert second["faults"] == []
    assert "agrees" in capsys.readouterr().out


def test_baselines_are_sorted_by_name_without_hidden_macos_files(tmp_path: Path) -> None:
    for name in ("b.tflite", "._b.tflite", "a.onnx", "._a.onnx", "c.onnx"):
        (tmp_path / name).touch()
    found = [path.name for path in subjects.baselines(tmp_path)]
    assert found == ["a.onnx", "b.tflite", "c.onnx"]


@pytest.mark.parametrize(
    ("words", "part", "code"),
    [
        ([], "name a MODEL", EXIT_USAGE),
        (["nothing-such"], "not installed", EXIT_CONFIG),
        (["no/file.onnx"], "no such file", EXIT_CONFIG),
        ([str(MODEL), str(MODEL)], "one name", EXIT_USAGE),
        ([str(MODEL), "--reference", "other"], "--reference other", EXIT_USAGE),
        (["--baselines", "models"], "no .tflite or .onnx", EXIT_CONFIG),
        (["tests/data/detect.tflite"], "edge-tools import-model", EXIT_CONFIG),
        (["--kernels", "all", "--baselines", "tests/data"], "takes no --baselines", EXIT_USAGE),
        (
            [str(MODEL), "--kernels", "all", "--record", "--csv", "t.csv"],
            "--csv, --record",
            EXIT_USAGE,
        ),
        ([str(MODEL), "--tflite-runtime", "python"], "nothing without --kernels all", EXIT_USAGE),
    ],
)
def test_usage_errors_are_one_line(
    tmp_path: Path,
    words: list[str],
    part: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    golden_set(tmp_path)
    assert run(tmp_path, *words) == code
    assert part in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(not BASELINES.exists(), reason="the baselines are not here")
def test_published_baselines_are_measured_from_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    golden_set(tmp_path)
    assert run(tmp_path, "--baselines", str(BASELINES), "--json", str(tmp_path / "t.json")) == 0
    models = json.loads((tmp_path / "t.json").read_text())["models"]
    ap50 = {one["model"]: one["classes"]["person"]["ap50"] for one in models}
    assert len(ap50) == 3
    assert min(ap50.values()) > 0.5
    assert {one["arithmetic"] for one in models} == {"integer-only", "part float", "float"}
