"""COCO figures on sets small enough to know the answer."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge import manifest
from edge.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE, InputError
from edge.interpreter import Interpreter
from tools import dataset, detector_card, evaluate, tracking
from tools.cli import main
from tools.dataset import Dataset
from tools.evaluate import accuracy, command, timing

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "yolox-nano-352"
BASELINES = ROOT.parent / "shared" / "baselines"
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
HERE, THERE = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 30.0, 30.0]


def write(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Dataset:
    for number, image in enumerate(images, start=1):
        image |= {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100}
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((100, 100, 3), np.uint8))
    for number, item in enumerate(annotations, start=1):
        item |= {"id": number, "area": item["bbox"][2] * item["bbox"][3]}
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path = folder / "some.json"
    path.write_text(json.dumps(document))
    return dataset.read(path, folder)


def box(category: int, bbox: list[float], image: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


@pytest.mark.parametrize(
    ("side", "size"), [(31, "small"), (32, "medium"), (95, "medium"), (96, "large")]
)
def test_sizes_are_cocos(side: int, size: str) -> None:
    assert accuracy.size_of({"bbox": [5, 5, side, side]}) == size
    assert accuracy.size_of({"bbox": [5, 5, 9, 9], "area": side**2}) == size


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE), box(3, THERE)])
    found = [box(1, HERE, score=0.9), box(3, THERE, score=0.8)]
    measured = evaluate.score(data, found)
    assert (measured.ap, measured.ap50, measured.ap75) == (1.0, 1.0, 1.0)
    assert measured.classes["car"].objects == 1


def test_subset_of_classes_is_measured_alone(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE), box(3, THERE)])
    found = [box(1, HERE, score=0.9)]
    assert evaluate.score(data, found).ap50 == 0.5
    part = evaluate.restrict_to_labels(data, ["person", "forklift"])
    measured = evaluate.score(part, found)
    assert (measured.ap50, list(measured.classes)) == (1.0, ["person"])


def test_no_detections_score_zero(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE)])
    assert evaluate.score(data, []).ap50 == 0.0


def test_box_with_partial_overlap_counts_at_iou_half_only(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE)])
    measured = evaluate.score(data, [box(1, [10.0, 10.0, 20.0, 12.0], score=0.9)])
    assert measured.ap50 == 1.0
    assert measured.ap75 == 0.0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, 0.5),
        ({"exhaustive_classes": ["person", "car"]}, 0.5),
        ({"exhaustive_classes": ["car"]}, 1.0),
        ({"ignore_regions": [[55, 55, 45, 45]]}, 1.0),
        ({"ignore_regions": [[0, 0, 5, 5]]}, 0.5),
    ],
    ids=["plain", "exhaustive", "unknown_class", "in_ignore_region", "beside_ignore_region"],
)
def test_false_positive_counts_only_where_the_class_is_exhaustive(
    tmp_path: Path, image: dict[str, Any], expected: float
) -> None:
    data = write(tmp_path, [image], [box(1, HERE)])
    found = [box(1, THERE, score=0.9), box(1, HERE, score=0.8)]
    assert evaluate.score(data, found).classes["person"].ap50 == pytest.approx(expected, abs=0.01)


def test_crowd_box_neither_counts_nor_is_missed(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE), box(1, THERE, iscrowd=1)])
    found = [box(1, [65.0, 65.0, 10.0, 10.0], score=0.9), box(1, HERE, score=0.8)]
    measured = evaluate.score(data, found)
    assert measured.classes["person"].ap50 == 1.0
    assert measured.classes["person"].objects == 1


def golden_set(folder: Path) -> Dataset:
    """A set of one picture whose annotations are what the shipped model must find in it."""
    golden = manifest.read(MODEL).golden
    assert golden is not None
    shutil.copy(MODEL / golden.file, folder / "1.jpg")
    numbers = {item["name"]: item["id"] for item in CATEGORIES}
    annotations = [
        box(numbers[item.label], list(item.box_px), id=number, area=1000.0, iscrowd=0)
        for number, item in enumerate(golden.detections, start=1)
    ]
    images = [{"id": 1, "file_name": "1.jpg", "width": 768, "height": 576}]
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "some.json").write_text(json.dumps(document))
    return dataset.read(folder / "some.json", folder)


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


def test_sizes_and_sources_are_measured_apart(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street"}, {"source": "room"}]
    large = [0.0, 0.0, 98.0, 99.0]
    data = write(tmp_path, images, [box(1, HERE), box(1, large, image=2)])
    found = [box(1, HERE, score=0.9), box(1, HERE, image=2, score=0.8)]
    measured = evaluate.accuracy.add_source_accuracy(evaluate.score(data, found), data, found)
    assert (measured.sizes["small"].ap50, measured.sizes["small"].objects) == (1.0, 1)
    assert (measured.sizes["large"].ap50, measured.sizes["large"].objects) == (0.0, 1)
    assert math.isnan(measured.sizes["medium"].ap50)
    assert {name: (one.ap50, one.objects) for name, one in measured.sources.items()} == {
        "room": (0.0, 1),
        "street": (1.0, 1),
    }


def test_false_positive_in_one_source_does_not_count_in_another(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street"}, {"source": "room"}]
    data = write(tmp_path, images, [box(1, HERE), box(1, HERE, image=2)])
    found = [box(1, THERE, image=2, score=0.9)]
    found += [box(1, HERE, score=0.8), box(1, HERE, image=2, score=0.8)]
    sources = evaluate.accuracy.add_source_accuracy(
        evaluate.score(data, found), data, found
    ).sources
    assert list(sources) == ["room", "street"]
    assert (sources["street"].ap, sources["street"].ap75) == (1.0, 1.0)
    assert sources["room"].ap50 == pytest.approx(0.5, abs=0.01)
    part = evaluate.accuracy.restrict_to_source(data, "street")
    assert [picture.image_id for picture in part.pictures] == [1]
    assert [item["image_id"] for item in part.annotations] == [1]


def test_hundred_objects_of_a_picture_count(tmp_path: Path) -> None:
    places = [[10.0 * (n % 10), 10.0 * (n // 10), 9.0, 9.0] for n in range(100)]
    data = write(tmp_path, [{}], [box(1, place) for place in places])
    found = [box(1, place, score=0.9) for place in places]
    assert evaluate.score(data, found).ap == 1.0


def test_missing_area_is_that_of_the_box(tmp_path: Path) -> None:
    """A wide box is larger than the square of its height: as COCO's files have both."""
    data = write(tmp_path, [{}], [box(1, [0.0, 0.0, 64.0, 24.0])])
    bare = tuple({key: item[key] for key in ("image_id", "category_id", "bbox")}
                 for item in data.annotations)  # fmt: skip
    data = replace(data, annotations=bare)
    measured = evaluate.score(data, [box(1, [0.0, 0.0, 64.0, 24.0], score=0.9)])
    assert measured.sizes["medium"] == accuracy.GroupAccuracy(1.0, 1.0, 1, 1.0)


def test_curves_fall_from_one_for_a_perfect_class_and_leave_out_absent_ones(tmp_path: Path) -> None:
    data = write(tmp_path, [{}], [box(1, HERE)])
    run_ = evaluate.accuracy.accumulated(data, [box(1, HERE, score=0.9)])
    curves = evaluate.accuracy.curves(data, run_)
    assert list(curves) == ["person"]
    recall, precision = curves["person"]
    assert recall.shape == precision.shape == (101,)
    np.testing.assert_allclose(precision, 1.0)


def run(folder: Path, *words: str) -> int:
    data = ["--annotations", str(folder / "some.json"), "--images", str(folder)]
    return main(["evaluate", "detect", *words, *data, "--runs", "1"])


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
    write(tmp_path, [{}], [box(1, HERE)])
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


def test_classes_that_a_model_lacks_are_reported_and_no_common_class_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_set(tmp_path)
    path = tmp_path / "some.json"
    document = json.loads(path.read_text())
    document["annotations"].append(box(3, HERE, id=99, area=400.0, iscrowd=0))
    person, other = document["categories"]
    other["name"] = "forklift"
    path.write_text(json.dumps(document))
    assert run(tmp_path, str(MODEL)) == EXIT_OK
    message = "yolox-nano-352 does not know forklift: 0 in the means over all classes"
    assert message in capsys.readouterr().err
    person["name"] = "pedestrian"
    path.write_text(json.dumps(document))
    assert run(tmp_path, str(MODEL)) == EXIT_NO_INPUT
    assert "does not know pedestrian, forklift: no class of " in capsys.readouterr().err


def test_examples_of_the_help_keep_their_line_breaks() -> None:
    assert "--kernels all \\\n    --tflite-runtime" in command.EXAMPLES


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


@pytest.mark.parametrize(
    ("words", "part", "code"),
    [
        ([], "name a MODEL", EXIT_FAILURE),
        (["nothing-such"], "not installed", EXIT_CONFIG),
        (["no/file.onnx"], "no such file", EXIT_CONFIG),
        ([str(MODEL), str(MODEL)], "one name", EXIT_FAILURE),
        ([str(MODEL), "--reference", "other"], "--reference other", EXIT_FAILURE),
        (["--baselines", "models"], "no .tflite or .onnx", EXIT_CONFIG),
        (["tests/data/detect.tflite"], "edge-tools import-model", EXIT_CONFIG),
        (["--kernels", "all", "--baselines", "tests/data"], "takes no --baselines", EXIT_USAGE),
        (
            [str(MODEL), "--kernels", "all", "--record", "--csv", "t.csv"],
            "--csv, --record",
            EXIT_USAGE,
        ),
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


def test_sample_keeps_the_share_of_each_source_and_depends_on_the_seed(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street" if n % 4 else "room"} for n in range(40)]
    data = write(tmp_path, images, [])
    chosen = dataset.stratified(data.pictures, 12, seed=1)
    assert sum(picture.source == "room" for picture in chosen) == 3
    random.seed(9)
    assert dataset.stratified(data.pictures, 12, seed=1) == chosen
    assert dataset.stratified(data.pictures, 12, seed=2) != chosen


def test_set_in_the_working_folder_is_named_after_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [{}], [])
    monkeypatch.chdir(tmp_path)
    assert dataset.read(Path("some.json"), Path()).name == f"{tmp_path.name}/some"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{}], "categories": []}'])
def test_file_that_is_not_coco_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"odd\.json"):
        dataset.read(path, tmp_path)


def test_missing_annotations_and_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        dataset.read(tmp_path / "nowhere.json", tmp_path)
    data = write(tmp_path, [{}], [])
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png"):
        dataset.load(data.pictures[0])


def test_pictures_without_a_source_are_not_listed_as_a_source(tmp_path: Path) -> None:
    data = write(tmp_path, [{"source": "street"}, {}], [box(1, HERE), box(1, HERE, image=2)])
    measured = evaluate.accuracy.add_source_accuracy(evaluate.score(data, []), data, [])
    assert list(measured.sources) == ["street"]
    nowhere = replace(measured, sources={})
    assert "| source |" not in detector_card.measured_part(nowhere, "command", has_seen=False)
