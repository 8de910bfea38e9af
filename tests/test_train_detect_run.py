"""Runs of the detector's training from labels: resuming, results, and refused options."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge import model_store  # noqa: E402
from edge.errors import ConfigError, EdgeError, InputError  # noqa: E402
from stopping import assert_same_weights, stopped_and_whole  # noqa: E402
from tiny_detector import train  # noqa: E402
from tools import dataset  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.evaluate import subjects  # noqa: E402
from tools.evaluate.accuracy import collect  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.train import detect, detect_label_state  # noqa: E402


def test_stopped_run_resumes_and_ends_with_the_same_weights(
    coco: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> None:
        assert train(coco, weights, out) == 0

    assert_same_weights(*stopped_and_whole(run, detect, tmp_path, monkeypatch))


def test_run_resumes_only_with_its_own_options(coco: Path, weights: Path, tmp_path: Path) -> None:
    assert train(coco, weights, tmp_path / "run", "--steps", "1") == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    for words, named in (
        (["--seed", "9"], "--seed 1"),
        (["--size", "96"], "--size 64x64"),
        (["--sizes", "64,96", "--teacher-weight", "1"], "--sizes 64, --teacher-weight 0.5"),
        (["--rectify"], "no --rectify"),
        (["--labels", "car,person"], f"--labels {','.join(yolox.LABELS)}"),
    ):
        with pytest.raises(InputError) as refused:
            train(coco, weights, tmp_path / "run", "--steps", "1", *words)
        message = f"was made with another config: {named}; name another --output"
        assert str(refused.value) == f"{tmp_path / 'run' / 'checkpoint.pt'} {message}"
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_run_does_not_resume_with_another_validation_set(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    val = tmp_path / "val.json"
    val.write_text(coco.read_text())
    more = ["--val", str(val), "--steps", "1"]
    assert train(coco, weights, tmp_path / "run", *more) == 0
    assert train(coco, weights, tmp_path / "run", *more) == 0
    val.write_text(val.read_text() + "\n")
    with pytest.raises(InputError, match="another config: another --val; "):
        train(coco, weights, tmp_path / "run", *more)


def test_checkpoint_without_its_validation_set_is_refused(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    assert train(coco, weights, tmp_path / "run", "--steps", "1") == 0
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path)
    del content["config"]["val_sha256"]
    torch.save(content, path)
    with pytest.raises(InputError, match="another config: an unknown --val; "):
        train(coco, weights, tmp_path / "run", "--steps", "1")


def test_run_does_not_resume_with_other_weights_or_data(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    assert train(coco, weights, tmp_path / "run", "--steps", "1") == 0
    other = tmp_path / "other.pt"
    yolox.save(yolox.YoloxNano(), other, "random")
    with pytest.raises(InputError, match="another config: another --weights; "):
        train(coco, other, tmp_path / "run", "--steps", "1")
    coco.write_text(coco.read_text() + "\n")
    with pytest.raises(InputError, match="another config: another --train, another --val; "):
        train(coco, weights, tmp_path / "run", "--steps", "1")
    assert len(list((tmp_path / "run").glob("suspected-*.json"))) == 1


def test_rectified_run_resumes_with_its_own_stem(
    coco: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect_label_state, "RECTIFIED_AT", InputSize(32, 32))
    assert train(coco, weights, tmp_path / "run", "--rectify") == 0
    made = (tmp_path / "run" / "rectified.pt").stat()
    assert train(coco, weights, tmp_path / "run", "--rectify") == 0
    assert (tmp_path / "run" / "rectified.pt").stat().st_mtime_ns == made.st_mtime_ns
    assert yolox.is_rectified(tmp_path / "run" / "latest.pt")
    assert not yolox.is_rectified(weights)


def test_new_labels_start_from_scratch_and_are_saved_with_the_weights(
    coco: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads(coco.read_text())
    content["categories"].append({"id": 99, "name": "forklift"})
    coco.write_text(json.dumps(content))
    assert train(coco, weights, tmp_path / "run", "--labels", "person,forklift") == 0
    assert "does not know every label" in caplog.text
    made = tmp_path / "run" / "best.pt"  # saved, though it finds nothing yet
    assert yolox.stored_labels(made) == ("person", "forklift")
    assert yolox.origin(made).startswith("random; then labels of")
    fresh = yolox.load(weights, labels=("person", "forklift")).heads[0].class_logits
    known = yolox.load(weights).heads[0].class_logits
    assert torch.equal(fresh.weight[0], known.weight[0])
    assert not fresh.weight[1].any()


def test_validation_set_without_objects_keeps_the_last_weights(
    coco: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(json.loads(coco.read_text()) | {"annotations": []}))
    assert train(coco, weights, tmp_path / "run", "--val", str(empty), "--patience", "1") == 0
    (line,) = (line for line in caplog.messages if "no_objects" in line)
    assert line.endswith("/empty kept=the last weights, as best")
    assert yolox.origin(tmp_path / "run" / "best.pt").endswith(", 4 steps")
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert '"ap50": null' in metrics
    assert "NaN" not in metrics


def test_measurements_follow_the_aspect_ratio_as_evaluate_does(tmp_path: Path) -> None:
    bgr = dataset.load_file(model_store.find("yolox-nano-352") / "golden.jpg")
    portrait = tmp_path / "portrait.png"
    cv2.imwrite(str(portrait), cv2.resize(bgr, (240, 416)))
    picture = dataset.Picture(1, portrait, 240, 416, "", frozenset(yolox.LABELS), ())
    data = dataset.Dataset("set", (picture,), dict(enumerate(yolox.LABELS)), ())
    size = InputSize(352, 288)
    with ExitStack() as stack:
        options = subjects.Options(float_size=size)
        evaluated = subjects.load(str(yolox.WEIGHTS), stack, options)
        found = collect(evaluated.detect, data)
    sure = tuple(item for item in found if item["score"] > 0.5)
    assert sure
    state = detect.start(
        detect.LabelTraining(), yolox.WEIGHTS, tmp_path / "none.pt", torch.device("cpu"), data
    )
    measured = detect.measure(state, replace(data, annotations=sure), size, tmp_path / "latest.pt")
    assert measured.ap == 1


def test_diverging_training_is_reported_and_keeps_the_best_weights(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeError, match=r"^by step 2 the loss became .*; give a lower --learning"):
        train(coco, weights, tmp_path / "run", "--learning-rate", "1e30")
    assert not (tmp_path / "run" / "best.pt").exists()


NEW = tuple(f"new{number}" for number in range(59))


@pytest.mark.parametrize("names", [("forklift", "pallet"), ("person", *NEW)])
def test_new_labels_are_learned_as_fast_as_known_ones(
    coco: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    data = dataset.read(coco, coco.parent)

    def rate(*names: str) -> float:
        config = detect.LabelTraining(labels=names)
        state = detect.start(config, yolox.WEIGHTS, tmp_path / "none.pt", torch.device("cpu"), data)
        layer = state.net.heads[0].class_logits.weight
        (group,) = (item for item in state.optimizer.param_groups if item["params"][0] is layer)
        return float(group["peak"])

    assert rate(*names) == pytest.approx(rate("person", "car"), rel=0.5)


def test_teacher_with_more_labels_teaches_only_the_requested_ones(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    assert train(coco, weights, tmp_path / "run", "--labels", "car,person") == 0
    assert yolox.stored_labels(tmp_path / "run" / "best.pt") == ("car", "person")


@pytest.mark.parametrize(
    "words",
    [
        ["--label-weight", "0", "--teacher-weight", "0"],
        ["--label-weight", "0", "--labels", "person,forklift"],  # which the weights cannot teach
    ],
)
def test_run_without_anything_to_learn_is_refused(
    coco: Path, weights: Path, tmp_path: Path, words: list[str]
) -> None:
    with pytest.raises(ConfigError, match="give --label-weight 1"):
        train(coco, weights, tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        "notes.pt",
        "notes.onnx",
        "notes.json",
        "notes.txt",
        "notes",
        "none.pt",
        "none.onnx",
        "none.json",
    ],
)
def test_unreadable_weights_are_named(tmp_path: Path, name: str) -> None:
    if name.startswith("notes"):
        (tmp_path / name).write_text("these are notes, not weights")
    with pytest.raises(InputError, match=f"^weights {tmp_path / name}: "):
        yolox.load(tmp_path / name)


@pytest.mark.parametrize("content", ["{}", '{"graph": {}}', '{"images": [], "annotations": []}'])
def test_json_in_place_of_weights_is_a_one_line_error(
    coco: Path, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"weights\.json: neither yolox_nano\.onnx nor"):
        train(coco, path, tmp_path / "run")


def test_onnx_weights_with_external_data_are_a_one_line_error(tmp_path: Path) -> None:
    import onnx

    weight = onnx.numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, "gone.bin")
    weight.ClearField("raw_data")
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    path = tmp_path / "parts.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(InputError, match=r"parts\.onnx: neither yolox_nano\.onnx nor"):
        yolox.load(path)


@pytest.mark.parametrize(
    "words", [["--every", "0"], ["--patience", "0"], ["--learning-rate", "-1"]]
)
def test_numbers_out_of_range_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path / "set.json", tmp_path / "w.pt", tmp_path / "run", *words)
    assert f"argument {words[0]}: '{words[1]}' is no" in capsys.readouterr().err


def test_unsupported_input_sizes_are_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="multiples of 32"):
        detect._sizes("256,300")
