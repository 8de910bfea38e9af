from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")
pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'edge-camera[tools]'")

import importlib.util

from class_folders import CLASSES, draw_splits
from edge import certificate, manifest
from edge.interpreter import Interpreter
from tools import golden, tracking
from tools.classifier import convert, description
from tools.classifier.description import Description, Training
from tools.classifier.tflite import TFLiteClassifier
from waiting import wait_until

for module in ("tensorflow", "keras", "optuna"):
    if importlib.util.find_spec(module) is None:
        reason = f"classifiers need {module}: pip install 'edge-camera[keras]'"
        pytest.skip(reason, allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
CHILD = ROOT / "tests" / "classifier_child.py"
NAMES = tuple(sorted(CLASSES))
TINY = ["--backbone", "TinyNet", "--side", "32", "--width", "8"]
# A closed port in place of the network: downloads fail at once on any machine.
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Walk:
    """What the commands of one process said, and where their files are."""

    folder: Path
    answers: dict[str, tuple[int, str, str]]


def environment(folder: Path) -> dict[str, str]:
    own = {"KERAS_HOME": str(folder / "keras"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/ml.db"}
    return os.environ | NO_NETWORK | own | {"PYTHONPATH": str(ROOT)}


def run_all(folder: Path, commands: dict[str, list[str]]) -> dict[str, tuple[int, str, str]]:
    """Run commands one after another in one process of their own."""
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        input=json.dumps(list(commands.values())),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment(folder),
        timeout=600,
    )
    answers = json.loads(done.stdout.splitlines()[-1])
    return {name: tuple(answer) for name, answer in zip(commands, answers, strict=True)}


def train(folder: Path, name: str, *more: str) -> list[str]:
    run = ["train", "classifier", str(folder / "set"), *TINY, "--output", str(folder / name)]
    return [*run, "--patience", "99", "--tracking-uri", f"sqlite:///{folder}/ml.db", *more]


def head(folder: Path, name: str, *more: str) -> list[str]:
    base = str(folder / "base" / "model.keras")
    return train(folder, name, "--weights", base, "--epochs", "60", "--batch", "8", *more)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A trained classifier, taken through every command."""
    folder = tmp_path_factory.mktemp("classifier")
    draw_splits(folder / "set", 48)
    data = ["--data", str(folder / "set")]
    base, levels = str(folder / "base"), str(folder / "base" / "levels")
    whole = ["--weights", "none", "--learning-rate", "0.01", "--epochs", "8", "--batch", "16"]
    quantize = ["quantize", "classifier", base, *data]
    smaller = [*quantize, "--prune", "0.3", "--prune-epochs", "1", "--qat", "1", "--levels", "IO"]
    commands = {
        "base": train(folder, "base", *whole, "--validate-every", "2", "--dropout", "0"),
        "levels": [*quantize, "--sweep", "3", "30", "--representative", "60"],
        "smaller": [*smaller, "--output", str(folder / "smaller")],
        "again": ["quantize", base, "--levels", "all", "--representative", "60"],
        "fewer": ["quantize", base, "--levels", "DR", "IO", "--representative", "30",
                  "--output", str(folder / "fewer")],
        "unrecorded": ["validate", f"{levels}/IO", "--max-drop", "0.5"],
        "evaluate": ["evaluate", levels, "--record", "--output", str(folder / "figures")],
        "gates": ["validate", f"{levels}/IO", "--max-params", "1M", "--max-ms", "1000",
                  "--min-accuracy", "0.7", "--max-drop", "0.1"],
        "floats": ["evaluate", f"{levels}/TL", "--record", "--output", str(folder / "floats")],
        "head": head(folder, "whole"),
        "search": head(folder, "search", "--search", "2", "--epochs", "5"),
        "more": head(folder, "search", "--search", "14", "--epochs", "5"),
        "explain": ["explain", "classifier", base, str(folder / "set" / "test" / "red"),
                    "--class", "red", "--output", str(folder / "explained")],
        "imagenet": train(folder, "imagenet", "--backbone", "MobileNet", "--alpha", "0.25"),
        "no-store": [*head(folder, "unstored"), "--tracking-uri", "nowhere://store"],
        "other": train(folder, "base", *whole, "--seed", "7"),
        "misfit": train(folder, "misfit", "--weights", str(CHILD)),
        "corrected": train(folder, "misfit", *whole[:2], "--epochs", "1"),
        "unknown": [*train(folder, "unknown"), "--backbone", "MobileNet9"],
        "unreadable": ["quantize", "classifier", str(folder / "broken"), *data],
        "dataless": ["quantize", str(folder / "broken")],
    }  # fmt: skip
    write_unreadable(folder / "broken")
    return Walk(folder, run_all(folder, commands))


def write_unreadable(folder: Path) -> None:
    """Write a classifier's folder whose model file is damaged."""
    described = Description(
        labels=NAMES,
        side_px=32,
        backbone="TinyNet",
        parameters=1,
        level="NQ",
        file=description.KERAS_FILE,
        train_sha256="",
        training=Training(),
    )
    description.write(folder, described)
    (folder / described.file).write_bytes(b"no archive")


def said(walk: Walk, name: str, code: int) -> str:
    """Return what a command said: on standard output if it went well, else its one line."""
    found, out, err = walk.answers[name]
    assert found == code, err
    if code == 0:
        return out
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def weights_of(path: Path) -> dict[str, Any]:
    """Return the arrays of a model.keras file."""
    import h5py

    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.array(item)

    content = zipfile.ZipFile(path).read("model.weights.h5")
    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(keep)
    return found


def figures(walk: Walk) -> dict[str, dict[str, str]]:
    said(walk, "evaluate", 0)
    with (walk.folder / "figures" / "levels.csv").open() as file:
        return {row["level"]: row for row in csv.DictReader(file)}


def test_training_learns_and_keeps_the_best_epoch(walk: Walk) -> None:
    said(walk, "base", 0)
    lines = (walk.folder / "base" / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    assert [epoch["number"] for epoch in epochs] == list(range(1, 9))
    validated = [epoch for epoch in epochs if epoch["val_loss"] is not None]
    assert [epoch["number"] for epoch in validated] == [2, 4, 6, 8]
    best = min(validated, key=lambda epoch: epoch["val_loss"])
    assert best["is_best"]
    assert float(figures(walk)["NQ"]["accuracy"]) > 0.8
    assert epochs[-1]["learning_rate"] < epochs[0]["learning_rate"] / 10


def test_mistake_does_not_claim_the_folder(walk: Walk) -> None:
    said(walk, "misfit", 78)
    assert "misfit/model.keras: val_accuracy" in said(walk, "corrected", 0)


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


def test_training_stopped_by_its_store_begins_nothing(walk: Walk) -> None:
    assert "experiment store nowhere://store" in said(walk, "no-store", 69)
    assert not (walk.folder / "unstored" / "state").exists()


def test_levels_that_are_there_are_not_converted_again(walk: Walk) -> None:
    assert "levels/IO/model.tflite" in said(walk, "again", 0)
    for level in convert.LEVELS:
        note = walk.folder / "base" / "levels" / level / description.FILE
        assert note.stat().st_mtime_ns < (walk.folder / "fewer" / "DR").stat().st_mtime_ns


def test_other_settings_convert_again(walk: Walk) -> None:
    said(walk, "fewer", 0)
    notes = [description.read(walk.folder / name / "IO").notes for name in ("fewer", "base/levels")]
    assert notes[0]["calibration"] == "30 training pictures, stratified by class"
    assert notes[1]["calibration"].startswith("60 training pictures")
    assert notes[0]["made from"] == notes[1]["made from"]


def test_recorded_figures_are_judged_by_validate(walk: Walk) -> None:
    assert "no such figure in its manifest" in walk.answers["unrecorded"][1]
    assert walk.answers["unrecorded"][0] == 78
    assert "pass  --max-drop: top-1" in said(walk, "gates", 0)
    row = figures(walk)
    stored = {one.metric: one.value for one in manifest.read(io_folder(walk)).accuracy}
    assert stored["top-1"] == float(row["IO"]["accuracy"])
    assert stored["top-1 float"] == float(row["NQ"]["accuracy"])
    card = (io_folder(walk) / "CARD.md").read_text()
    assert f"| IO | {float(row['IO']['loss']):.3f} | {stored['top-1']:.4f} |" in card
    assert "Nobody has measured" not in card


def test_every_level_is_written_and_only_io_is_integer_only(walk: Walk) -> None:
    said(walk, "levels", 0)
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


def test_levels_shrink_and_stay_right(walk: Walk) -> None:
    found = figures(walk)
    assert list(found) == list(convert.LEVELS)
    size = {level: int(row["file_bytes"]) for level, row in found.items()}
    assert size["IO"] < size["TL"]
    assert size["F16"] < size["TL"]
    accuracy = {level: float(row["accuracy"]) for level, row in found.items()}
    assert accuracy["TL"] == accuracy["NQ"]
    assert abs(accuracy["IO"] - accuracy["NQ"]) <= 0.1
    assert found["NQ"]["agreement"] == "1.0"


def test_figures_are_those_of_the_files(walk: Walk) -> None:
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


def test_evaluation_draws_its_figures(walk: Walk) -> None:
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


def test_golden_picture_finds_a_changed_answer(walk: Walk, tmp_path: Path) -> None:
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
    said(walk, "levels", 0)
    levels = walk.folder / "base" / "levels"
    rows = list(csv.reader((levels / "representative.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["pictures", "3", "30"]
    assert all(0 <= float(row[1]) <= 1 for row in rows[1:])
    assert cv2.imread(str(levels / "representative.png")) is not None


def test_pruned_network_is_smaller_and_integer_only(walk: Walk) -> None:
    assert "pruned: 30% of the channels" in said(walk, "smaller", 0)
    small, whole = (
        manifest.read(folder) for folder in (walk.folder / "smaller" / "IO", io_folder(walk))
    )
    assert small.parameters < 0.95 * whole.parameters
    assert small.certificate.integer_only
    assert "fake quantization" in small.training["qat"]


def io_folder(walk: Walk) -> Path:
    return walk.folder / "base" / "levels" / "IO"


def test_killed_training_goes_on_and_ends_with_the_same_weights(walk: Walk) -> None:
    said(walk, "head", 0)
    state = walk.folder / "cut" / "state" / "head.json"
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=walk.folder,
        env=environment(walk.folder),
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps([head(walk.folder, "cut")]))
        process.stdin.close()
        wait_until(state.exists, timeout_s=240)
        process.send_signal(signal.SIGKILL)
    done = len(json.loads(state.read_text())["history"])
    assert 0 < done < 60
    (answer,) = run_all(walk.folder, {"cut": head(walk.folder, "cut")}).values()
    assert answer[0] == 0
    whole, cut = (weights_of(walk.folder / name / "model.keras") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(cut[name], value, err_msg=name)


def stopped(walk: Walk, command: list[str], is_time: Callable[[], object]) -> None:
    """Run a command and kill it, with all that it started, when it is time."""
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=walk.folder,
        env=environment(walk.folder),
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps([command]))
        process.stdin.close()
        wait_until(lambda: is_time() or process.poll() is not None, timeout_s=240)
        os.killpg(process.pid, signal.SIGKILL)


def test_killed_pruning_and_int8_training_go_on_and_end_with_the_same_weights(walk: Walk) -> None:
    said(walk, "smaller", 0)

    def command(name: str) -> list[str]:
        base = ["quantize", "classifier", str(walk.folder / "base"), "--levels", "TL"]
        settings = ["--prune", "0.3", "--prune-epochs", "2", "--qat", "5"]
        return [*base, *settings, "--output", str(walk.folder / name)]

    state = walk.folder / "adapt-cut" / "adapted" / "state"
    stopped(walk, command("adapt-cut"), lambda: any(state.glob("*/qat.json")))
    (note,) = state.glob("*/qat.json")
    assert 0 < len(json.loads(note.read_text())["history"]) < 5
    names = ("adapt-cut", "adapt-whole")
    for answer in run_all(walk.folder, {name: command(name) for name in names}).values():
        assert answer[0] == 0, answer[2]
    assert not state.exists()
    cut, whole = (weights_of(walk.folder / name / "adapted" / "model.keras") for name in names)
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(cut[name], value, err_msg=name)


def test_stopped_measurement_goes_on_with_the_models_that_are_missing(walk: Walk) -> None:
    said(walk, "levels", 0)
    output = walk.folder / "measured-cut"
    levels = [str(walk.folder / "base" / "levels" / name) for name in ("TL", "F16", "DR", "IO")]
    command = ["evaluate", *levels, "--output", str(output)]
    stopped(walk, command, lambda: any((output / ".unfinished").glob("*.json")))
    done = len(list((output / ".unfinished").glob("*.json")))
    assert 0 < done < 4
    answers = run_all(walk.folder, {"on": command, "afresh": command})
    assert [answer[0] for answer in answers.values()] == [0, 0]
    assert answers["on"][2].count("measured before the run stopped") == done
    assert "measured before" not in answers["afresh"][2]
    rows = list(csv.DictReader((output / "levels.csv").read_text().splitlines()))
    assert [row["level"] for row in rows] == ["TL", "F16", "DR", "IO"]
    assert not (output / ".unfinished").exists()


def test_model_that_cannot_be_read_costs_no_figure_of_another(walk: Walk) -> None:
    said(walk, "levels", 0)
    folder = walk.folder / "broken-level"
    shutil.copytree(walk.folder / "base" / "levels" / "IO", folder)
    (folder / "model.tflite").write_bytes(b"no model")
    levels = [str(walk.folder / "base" / "levels" / "TL"), str(folder)]
    data = ["--data", str(walk.folder / "set"), "--output", str(walk.folder / "half")]
    failing = ["evaluate", "classifier", *levels, *data]
    answers = run_all(walk.folder, {"first": failing, "second": failing})
    for code, _, err in answers.values():
        assert code == 78
        assert err.splitlines()[-1].count("broken-level/model.tflite") == 1
    assert "levels/TL: measured before the run stopped" in answers["second"][2]


def test_sweep_goes_on_and_begins_again_for_another_network(walk: Walk) -> None:
    said(walk, "levels", 0)
    levels = walk.folder / "swept"
    levels.mkdir()
    for name in ("representative.csv", "representative.json"):
        shutil.copy(walk.folder / "base" / "levels" / name, levels)
    points = json.loads((levels / "representative.json").read_text())
    assert set(points["accuracy"]) == {"3", "30"}
    points["accuracy"] = {"3": 0.123}  # as if the run had stopped here
    (levels / "representative.json").write_text(json.dumps(points))
    base = ["quantize", str(walk.folder / "base"), "--levels", "TL", "--output", str(levels)]
    (answer,) = run_all(walk.folder, {"on": [*base, "--sweep", "3", "30"]}).values()
    assert answer[0] == 0
    assert "3 representative pictures: 0.1230" in answer[1]
    (levels / "representative.json").write_text(json.dumps(points | {"made_from": "another"}))
    (answer,) = run_all(walk.folder, {"anew": [*base, "--sweep", "3"]}).values()
    assert "0.1230" not in answer[1]


def test_frozen_backbone_stays_as_its_weights_file_has_it(walk: Walk) -> None:
    said(walk, "head", 0)
    base, whole = (weights_of(walk.folder / name / "model.keras") for name in ("base", "whole"))
    frozen = [name for name in base if "/functional/" in name or "backbone" in name]
    assert frozen
    for name in frozen:
        np.testing.assert_array_equal(whole[name], base[name], err_msg=name)


def test_search_goes_on_where_it_stopped(walk: Walk) -> None:
    said(walk, "search", 0)
    said(walk, "more", 0)
    rows = list(csv.DictReader((walk.folder / "search" / "search.csv").read_text().splitlines()))
    assert sorted(int(row["trial"]) for row in rows) == list(range(14))
    best = msgspec.json.decode((walk.folder / "search" / "training.json").read_bytes())
    assert f"{best['learning_rate']:.4g}" == rows[0]["learning_rate"]
    described = description.read(walk.folder / "search").training
    assert described.learning_rate == best["learning_rate"]
    assert "better settings found" in said(walk, "more", 0)
    losses = [float(row["val_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert cv2.imread(str(walk.folder / "search" / "search.png")) is not None


def test_search_ends_bad_trials_early(walk: Walk) -> None:
    said(walk, "more", 0)
    rows = list(csv.DictReader((walk.folder / "search" / "search.csv").read_text().splitlines()))
    states = {row["state"] for row in rows}
    assert states == {"complete", "pruned"}
    best, worst = rows[0], rows[-1]
    assert (best["state"], worst["state"]) == ("complete", "pruned")


def test_explanation_of_a_class_is_a_picture_for_each_picture(walk: Walk) -> None:
    said(walk, "explain", 0)
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
        ("unknown", 78, ("'MobileNet9' is unknown; known are", "MobileNetV2")),
        ("dataless", 66, ("broken: no note of its data set", "name it with --data")),
        ("floats", 66, ("--record: none of the models has a manifest",)),
        ("unreadable", 78, ("broken/model.keras: cannot be read", "train it again")),
    ],
)
def test_mistake_gets_one_line_that_names_it(
    walk: Walk, name: str, code: int, words: tuple[str, ...]
) -> None:
    line = said(walk, name, code)
    assert line.startswith("edge-tools: ")
    assert all(word in line for word in words), line
