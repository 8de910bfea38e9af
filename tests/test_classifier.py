"""Results of the classifier commands: figures, files, experiments; one-line errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from classifying import NAMES, Walk, output_of, weights_of
from edge import certificate, manifest
from edge.interpreter import Interpreter
from tools import golden, tracking
from tools.classifier import convert, description
from tools.classifier.tflite import TFLiteClassifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def figures(walk: Walk) -> dict[str, dict[str, str]]:
    output_of(walk, "evaluate", 0)
    with (walk.folder / "figures" / "levels.csv").open() as file:
        return {row["level"]: row for row in csv.DictReader(file)}


def test_training_learns_and_keeps_the_best_epoch(walk: Walk) -> None:
    output_of(walk, "base", 0)
    lines = (walk.folder / "base" / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    assert [epoch["number"] for epoch in epochs] == list(range(1, 9))
    validated = [epoch for epoch in epochs if epoch["val_loss"] is not None]
    assert [epoch["number"] for epoch in validated] == [2, 4, 6, 8]
    best = min(validated, key=lambda epoch: epoch["val_loss"])
    assert best["is_best"]
    measured = figures(walk)["NQ"]
    assert f"{measured['pictures']} pictures of set/test, one at a time" in output_of(
        walk, "evaluate", 0
    )
    assert float(measured["accuracy"]) > 0.8
    assert measured["runtime"].endswith(", 1 thread(s)")
    assert epochs[-1]["learning_rate"] < epochs[0]["learning_rate"] / 10


def test_usage_error_does_not_claim_the_folder(walk: Walk) -> None:
    output_of(walk, "misfit", 78)
    assert "misfit/model.keras: val_accuracy" in output_of(walk, "corrected", 0)


def test_validation_leaves_sample_predictions(walk: Walk) -> None:
    sheets = sorted((walk.folder / "base" / "samples").glob("*.jpg"))
    assert [sheet.stem for sheet in sheets] == [f"network-00{n}" for n in (2, 4, 6, 8)]
    assert np.asarray(cv2.imread(str(sheets[0]))).shape == (4 * 218, 6 * 200, 3)


def runs(walk: Walk, experiment: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    with tracking._quiet():
        client = MlflowClient(tracking_uri=f"sqlite:///{walk.folder}/ml.db")
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        return list(client.search_runs([found.experiment_id], order_by=["start_time ASC"]))


def test_every_step_is_recorded_as_an_experiment(walk: Walk) -> None:
    training, levels, measured = (
        runs(walk, name)[0] for name in ("classifier", "quantize", "levels")
    )
    for run in (training, levels, measured):
        assert run.info.status == "FINISHED"
        assert len(run.data.params["data_sha256"]) == 64
        assert run.data.params["git_commit"]
    assert training.data.params["backbone"] == "TinyNet"
    assert 0 < training.data.metrics["val_accuracy"] <= 1
    assert levels.data.metrics["IO bytes"] > 0
    assert measured.data.metrics["IO accuracy"] == float(figures(walk)["IO"]["accuracy"])


def test_training_without_its_experiment_store_writes_nothing(walk: Walk) -> None:
    assert "experiment store nowhere://store" in output_of(walk, "no-store", 69)
    assert not (walk.folder / "unstored" / "state").exists()


def test_existing_levels_are_not_converted_again(walk: Walk) -> None:
    assert "levels/IO/model.tflite" in output_of(walk, "again", 0)
    for level in convert.LEVELS:
        note = walk.folder / "base" / "levels" / level / description.FILE
        assert note.stat().st_mtime_ns < (walk.folder / "fewer" / "DR").stat().st_mtime_ns


def test_other_settings_convert_again(walk: Walk) -> None:
    output_of(walk, "fewer", 0)
    notes = [description.read(walk.folder / name / "IO").notes for name in ("fewer", "base/levels")]
    assert notes[0]["calibration"] == "30 training pictures, stratified by class"
    assert notes[1]["calibration"].startswith("60 training pictures")
    assert notes[0]["made from"] == notes[1]["made from"]


def test_recorded_figures_are_checked_by_validate(walk: Walk) -> None:
    assert "no such figure in its manifest" in walk.answers["unrecorded"][1]
    assert walk.answers["unrecorded"][0] == 78
    assert "pass  --max-drop: top-1" in output_of(walk, "gates", 0)
    row = figures(walk)
    stored = {one.metric: one.value for one in manifest.read(io_folder(walk)).accuracy}
    assert stored["top-1"] == float(row["IO"]["accuracy"])
    assert stored["top-1 float"] == float(row["NQ"]["accuracy"])
    card = (io_folder(walk) / "CARD.md").read_text()
    assert f"| IO | {float(row['IO']['loss']):.3f} | {stored['top-1']:.4f} |" in card
    assert "Not measured yet" not in card


def test_every_level_is_written_and_only_io_is_integer_only(walk: Walk) -> None:
    output_of(walk, "levels", 0)
    levels = walk.folder / "base" / "levels"
    assert (levels / "NQ" / "model.keras").exists()
    proofs = {
        level: certificate.certify(levels / level / "model.tflite") for level in convert.LEVELS[1:]
    }
    assert [level for level, proof in proofs.items() if proof.integer_only] == ["IO"]
    assert set(proofs["TL"].tensors) <= {"float32", "int32"}
    assert proofs["F16"].tensors["float16"] > 0
    assert proofs["DR"].tensors["int8"] > 0
    assert proofs["FF"].tensors["float32"] == 2  # in and out


def test_levels_shrink_and_stay_accurate(walk: Walk) -> None:
    found = figures(walk)
    assert list(found) == list(convert.LEVELS)
    size = {level: int(row["file_bytes"]) for level, row in found.items()}
    assert size["IO"] < size["TL"]
    assert size["F16"] < size["TL"]
    accuracy = {level: float(row["accuracy"]) for level, row in found.items()}
    assert accuracy["TL"] == accuracy["NQ"]
    assert abs(accuracy["IO"] - accuracy["NQ"]) <= 0.1
    assert found["NQ"]["agreement"] == "1.0"


def test_figures_match_the_files(walk: Walk) -> None:
    row = figures(walk)["IO"]
    classifier = TFLiteClassifier(walk.folder / "base" / "levels" / "IO" / "model.tflite")
    hits = [
        int(classifier.probabilities(read_rgb(path)).argmax()) == label
        for label, name in enumerate(NAMES)
        for path in sorted((walk.folder / "set" / "test" / name).iterdir())
    ]
    assert float(row["accuracy"]) == pytest.approx(sum(hits) / len(hits))
    assert int(row["pictures"]) == len(hits) == 48
    assert 0 < float(row["p50_ms"]) <= float(row["p95_ms"]) <= float(row["p99_ms"])
    assert 0 < int(row["added_bytes"]) < int(row["peak_bytes"]) < 400e6


def read_rgb(path: Path) -> np.ndarray[Any, Any]:
    bgr = np.asarray(cv2.imread(str(path)))
    resized = cv2.resize(bgr, (32, 32), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.ascontiguousarray(resized[..., ::-1])


def test_evaluation_draws_its_plots(walk: Walk) -> None:
    figures(walk)
    names = {path.name for path in (walk.folder / "figures").glob("*.png")}
    each = {
        f"{kind}-{level}.png" for kind in ("confusion", "reliability") for level in convert.LEVELS
    }
    assert names == each | {"levels.png"}


def test_integer_folder_loads_like_any_other_model(walk: Walk) -> None:
    folder = walk.folder / "base" / "levels" / "IO"
    model = Interpreter.load(folder).manifest
    assert (model.task, model.labels, model.name) == ("classify", NAMES, "base")
    assert (model.input.scale, model.input.zero_point) == (1 / 128, 0)
    assert model.certificate.integer_only
    assert golden.differences(folder) == []
    assert "blue, green, red" in (folder / "CARD.md").read_text()


def test_golden_picture_detects_a_changed_result(walk: Walk, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in (walk.folder / "base" / "levels" / "IO").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    model = manifest.read(folder)
    assert model.golden is not None
    text = (folder / "manifest.json").read_text()
    picture = np.full((32, 32, 3), (60, 60, 200), np.uint8)
    cv2.imwrite(str(folder / model.golden.file), picture)
    assert text == (folder / "manifest.json").read_text()
    assert golden.differences(folder) != []


def test_number_of_representative_pictures_is_plotted(walk: Walk) -> None:
    output_of(walk, "levels", 0)
    levels = walk.folder / "base" / "levels"
    rows = list(csv.reader((levels / "representative.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["pictures", "3", "30"]
    assert all(0 <= float(row[1]) <= 1 for row in rows[1:])
    assert cv2.imread(str(levels / "representative.png")) is not None


def test_pruned_network_is_smaller_and_integer_only(walk: Walk) -> None:
    assert "pruned: 30% of the channels" in output_of(walk, "smaller", 0)
    small, whole = (
        manifest.read(folder) for folder in (walk.folder / "smaller" / "IO", io_folder(walk))
    )
    assert small.parameters < 0.95 * whole.parameters
    assert small.certificate.integer_only
    assert "fake quantization" in small.training["qat"]


def io_folder(walk: Walk) -> Path:
    return walk.folder / "base" / "levels" / "IO"


def test_frozen_backbone_stays_as_its_weights_file_has_it(walk: Walk) -> None:
    output_of(walk, "head", 0)
    base, whole = (weights_of(walk.folder / name / "model.keras") for name in ("base", "whole"))
    frozen = [name for name in base if "/functional/" in name or "backbone" in name]
    assert frozen
    for name in frozen:
        np.testing.assert_array_equal(whole[name], base[name], err_msg=name)


def test_search_resumes_where_it_stopped(walk: Walk) -> None:
    output_of(walk, "search", 0)
    output_of(walk, "more", 0)
    rows = list(csv.DictReader((walk.folder / "search" / "search.csv").read_text().splitlines()))
    assert sorted(int(row["trial"]) for row in rows) == list(range(14))
    best = msgspec.json.decode((walk.folder / "search" / "training.json").read_bytes())
    assert f"{best['learning_rate']:.4g}" == rows[0]["learning_rate"]
    described = description.read(walk.folder / "search").training
    assert described.learning_rate == best["learning_rate"]
    assert "better settings found" in output_of(walk, "more", 0)
    losses = [float(row["val_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert cv2.imread(str(walk.folder / "search" / "search.png")) is not None


def test_search_prunes_bad_trials(walk: Walk) -> None:
    output_of(walk, "more", 0)
    rows = list(csv.DictReader((walk.folder / "search" / "search.csv").read_text().splitlines()))
    assert "trial 14/14 done, best val_loss" in walk.answers["more"][2]
    states = {row["state"] for row in rows}
    assert states == {"complete", "pruned"}
    best, worst = rows[0], rows[-1]
    assert (best["state"], worst["state"]) == ("complete", "pruned")


def test_explain_writes_one_picture_for_each_picture(walk: Walk) -> None:
    output_of(walk, "explain", 0)
    found = sorted((walk.folder / "explained").glob("*.jpg"))
    assert len(found) == 16
    assert all(path.stem.endswith("-red") for path in found)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("imagenet", 66, ("mobilenet_2_5_224_tf_no_top.h5 is not in", "use --weights FILE")),
        (
            "other",
            66,
            (
                "other settings (dropout 0.0, validate_every 2, seed 1)",
                "name another folder with --output",
            ),
        ),
        ("misfit", 78, ("classifier_child.py: do not fit",)),
        ("diverged", 1, ("network epoch 1 the loss became", "give a lower --learning-rate")),
        ("unknown", 78, ("'MobileNet9' is unknown; known are", "MobileNetV2")),
        ("dataless", 66, ("broken: no note of its data set", "name it with --data")),
        ("floats", 66, ("--record: none of the models has a manifest",)),
        ("unreadable", 78, ("broken/model.keras: cannot be read", "train it again")),
    ],
)
def test_mistake_is_a_one_line_error_that_names_it(
    walk: Walk, name: str, code: int, words: tuple[str, ...]
) -> None:
    line = output_of(walk, name, code)
    assert line.startswith("edge-tools: ")
    assert all(word in line for word in words), line


def test_int8_input_is_quantized_as_on_the_board(walk: Walk) -> None:
    classifier = TFLiteClassifier(io_folder(walk) / "model.tflite")
    rgb = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    fed = classifier._quantized(rgb)
    assert fed.dtype == np.int8
    np.testing.assert_array_equal(fed, (rgb.astype(int) - 128))
    assert classifier._takes_levels
    classifier._takes_levels = False
    np.testing.assert_array_equal(classifier._quantized(rgb), fed)
