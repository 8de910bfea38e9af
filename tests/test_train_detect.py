"""Training of the detector from labels: what is taught, how it is shown, and that a run goes on."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge.errors import ConfigError, EdgeError, InputError  # noqa: E402
from stopping import assert_same_weights, stopped_and_whole  # noqa: E402
from tools import dataset  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.coco_labels import NAMES  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.train import assign, detect, detect_augment, detect_label_state, labels  # noqa: E402
from tools.train.sampler import sampler  # noqa: E402

ROOT = Path(__file__).parents[1]
LABELS = {1: "person", 3: "car"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network of random weights, in the file that `train detect` reads and writes."""
    torch.manual_seed(1)
    path = tmp_path / "random.pt"
    yolox.save(yolox.YoloxNano(), path, "random")
    return path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO file of eight gray pictures, each with one white person."""
    images, boxes = [], []
    for number in range(1, 9):
        picture = np.full((60, 80, 3), 90, np.uint8)
        picture[10:40, 20:35] = 255
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 60})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [20, 10, 15, 30]})
    categories = [{"id": number, "name": name} for number, name in LABELS.items()]
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return path


def picture(**changes: object) -> dataset.Picture:
    fields: dict[str, object] = {
        "image_id": 1, "path": Path("1.png"), "width": 80, "height": 60, "source": "",
        "exhaustive_classes": frozenset({"person"}), "ignore_regions": (),
    }  # fmt: skip
    return dataset.Picture(**(fields | changes))  # type: ignore[arg-type]


def teach(
    annotations: list[dict[str, object]], suspected: list[dict[str, object]]
) -> labels.Taught:
    data = dataset.Dataset("set", (picture(),), LABELS, tuple(annotations))
    (taught,) = labels.teach(data, suspected, yolox.LABELS)
    return taught


def suspect(score: float, bbox: list[float]) -> dict[str, object]:
    car = yolox.LABELS.index("car")
    return {"image_id": 1, "category_id": car, "bbox": bbox, "score": score}


def test_what_the_teacher_is_sure_of_is_taught_and_what_it_suspects_is_ignored() -> None:
    taught = teach([], [suspect(0.9, [0, 0, 10, 10]), suspect(0.2, [40, 0, 10, 20])])
    assert taught.labels.tolist() == [yolox.LABELS.index("car")]
    assert taught.boxes.tolist() == [[0, 0, 10, 10]]
    assert taught.ignored.tolist() == [[40, 0, 50, 20]]


def test_an_annotated_object_is_not_taught_twice() -> None:
    car = {"image_id": 1, "category_id": 3, "bbox": [1, 0, 10, 10], "iscrowd": 0}
    assert len(teach([car], [suspect(0.9, [0, 0, 10, 10])]).boxes) == 1


def test_crowds_are_ignored() -> None:
    crowd = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10], "iscrowd": 1}
    taught = teach([crowd], [])
    assert not len(taught.boxes)
    assert taught.ignored.tolist() == [[1, 2, 11, 12]]


def test_a_set_without_our_labels_is_refused() -> None:
    data = dataset.Dataset("fruit", (picture(),), {1: "apple"}, ())
    with pytest.raises(InputError, match="none of its categories"):
        labels.teach(data, [], yolox.LABELS)


def test_categories_that_the_detector_lacks_are_told_with_their_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    person = {"image_id": 1, "category_id": 1, "bbox": [1, 0, 10, 10]}
    motorbike = {"image_id": 1, "category_id": 2, "bbox": [1, 0, 10, 10]}
    names = {1: "person", 2: "motorbike"}
    data = dataset.Dataset("set", (picture(),), names, (person, motorbike, motorbike))
    (taught,) = labels.teach(data, [], yolox.LABELS)
    assert len(taught.boxes) == 1
    (line,) = caplog.messages
    assert "category=motorbike objects=2" in line


def test_the_teacher_is_asked_for_the_detectors_classes_that_a_set_does_not_know(
    tmp_path: Path,
) -> None:
    golden = ROOT / "models" / "yolox-nano-352" / "golden.jpg"
    known = picture(path=golden, width=768, height=576)
    data = dataset.Dataset("set", (known,), {1: "person"}, ())
    size = InputSize(352, 288)
    names = yolox.LABELS
    found = labels.suspect(yolox.WEIGHTS, data, size, names, tmp_path / "a.json")
    assert "car" in {names[item["category_id"]] for item in found}
    assert "person" not in {names[item["category_id"]] for item in found}
    (taught,) = labels.teach(data, found, names)
    assert names.index("car") in taught.labels
    assert labels.suspect(yolox.WEIGHTS, data, size, ["person"], tmp_path / "b.json") == []


def test_a_teacher_of_cocos_labels_is_asked_for_those_beyond_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tmp_path / "as-published.pt"
    yolox.save(yolox.YoloxNano(labels=NAMES), published, "random")
    data = dataset.Dataset("set", (picture(),), {1: "person"}, ())
    names = ("person", "chair", "forklift")
    asked = []

    def collect(detect, data, **_) -> list[dict[str, object]]:
        asked.append((detect.__self__._net.labels, len(data.pictures)))
        return []

    monkeypatch.setattr(labels, "collect", collect)
    labels.suspect(published, data, InputSize(64, 64), names, tmp_path / "found.json")
    assert asked == [(names, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_follow_the_pixels_of_a_changed_picture(coco: Path, seed: int) -> None:
    taught = labels.teach(dataset.read(coco, coco.parent), [], yolox.LABELS)
    chance = random.Random(seed)
    kind = detect_augment.mosaic if seed % 2 else detect_augment.single
    sample = kind(taught[:4], 128, chance) if seed % 2 else kind(taught[0], 128, chance)
    gray = sample.image.max(2).astype(float)
    for left, top, right, bottom in sample.boxes.round().astype(int):
        inside = gray[top:bottom, left:right]
        around = gray[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4]
        assert np.median(inside) > 1.2 * np.percentile(around, 5)


def test_a_step_has_the_same_pictures_whenever_it_is_made(coco: Path) -> None:
    taught = labels.teach(dataset.read(coco, coco.parent), [], yolox.LABELS)
    config = detect.LabelTraining(batch=2, sizes=(64, 96))
    pictures = sampler(taught, 0.5)
    first, again, other = (
        detect._batch(config, pictures, step, torch.device("cpu"))[0] for step in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_pictures_of_rare_labels_are_drawn_more_often() -> None:
    car = {"image_id": 1, "category_id": 3, "bbox": [1, 0, 10, 10]}
    person = {"image_id": 1, "category_id": 1, "bbox": [1, 0, 10, 10]}
    cars, persons = teach([car], []), teach([person], [])
    pictures = [cars, *[persons] * 9]

    def share_of_cars(balance: float) -> float:
        drawn = sampler(pictures, balance).draw(2000, random.Random(1))
        return sum(taught is cars for taught in drawn) / 2000

    assert share_of_cars(0.0) == pytest.approx(0.1, abs=0.03)
    assert share_of_cars(0.5) == pytest.approx(3 / 12, abs=0.03)
    assert share_of_cars(1.0) == pytest.approx(0.5, abs=0.03)


def outputs(size: int = 64) -> dict[str, torch.Tensor]:
    shapes = {"box": 4, "objectness": 1, "class": 9}
    return {
        f"{kind}_{stride}": torch.zeros(1, count, size // stride, size // stride)
        for stride in yolox.STRIDES
        for kind, count in shapes.items()
    }


def truth(boxes: list[list[float]], ignored: list[list[float]]) -> assign.Truth:
    return assign.Truth(
        torch.tensor(boxes).reshape(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.tensor(ignored).reshape(-1, 4),
    )


def test_the_right_answer_costs_less_than_a_shifted_one() -> None:
    shown = truth([[16.0, 16.0, 32.0, 32.0]], [])
    right, wrong = outputs(), outputs()
    for made, shift in ((right, 0.0), (wrong, 0.8)):
        cell = made["box_16"][0, :, 1, 1]
        cell += torch.tensor([0.5 + shift, 0.5, 0.0, 0.0])
        made["objectness_16"][0, 0, 1, 1] = 3
    assert assign.loss(right, [shown], yolox.STRIDES) < assign.loss(wrong, [shown], yolox.STRIDES)


def test_nothing_is_background_inside_an_ignored_box() -> None:
    made = outputs()
    made["objectness_8"] += 5
    whole = [[0.0, 0.0, 64.0, 64.0]]
    assert assign.loss(made, [truth([], whole)], yolox.STRIDES) == 0
    assert assign.loss(made, [truth([], [])], yolox.STRIDES) > 0


def test_a_cell_answers_for_one_object_only() -> None:
    boxes = [[8.0, 8.0, 24.0, 24.0], [16.0, 16.0, 40.0, 40.0]]
    cells = assign.flattened(outputs(), yolox.STRIDES)
    one = assign.Cells(
        cells.corners[0], cells.objectness[0], cells.classes[0], cells.centers, cells.strides
    )
    chosen, objects, _ = assign.assign(one, truth(boxes, []))
    assert len(chosen) == len(set(chosen.tolist()))
    assert set(objects.tolist()) == {0, 1}


def test_saved_weights_are_the_same_network(weights: Path) -> None:
    value = torch.rand(1, 3, 64, 64) * 255
    groups = [[5, 3, 9], [0, 1, 2, 4, 6, 7, 8], list(range(10, 16))]
    with torch.no_grad():
        whole, split = yolox.load(weights)(value), yolox.load(weights, groups)(value)
    for name, wanted in whole.items():
        assert torch.allclose(split[name], wanted, atol=1e-4)


def train(coco: Path, weights: Path, out: Path, *more: str) -> int:
    parser = argparse.ArgumentParser()
    detect.add_arguments(parser)
    arguments = ["--weights", str(weights), "--train", str(coco), "--val", str(coco)]
    arguments += ["--images", str(coco.parent), "--out", str(out), "--sizes", "64", "--size", "64"]
    return detect.run(parser.parse_args([*arguments, "--steps", "4", "--every", "2", *more]))


def test_stopped_run_goes_on_and_ends_with_the_same_weights(
    coco: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> None:
        assert train(coco, weights, out) == 0

    assert_same_weights(*stopped_and_whole(run, detect, tmp_path, monkeypatch))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seed", "9"], "--seed 1"),
        (["--size", "96"], "--size 64x64"),
        (["--sizes", "64,96", "--teacher-weight", "1"], "--sizes 64, --teacher-weight 0.5"),
        (["--rectify"], "no --rectify"),
        (["--labels", "car,person"], f"--labels {','.join(yolox.LABELS)}"),
    ],
)
def test_a_run_goes_on_with_its_own_options_only(
    coco: Path, weights: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    assert train(coco, weights, tmp_path / "run", "--steps", "1") == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(InputError) as refused:
        train(coco, weights, tmp_path / "run", "--steps", "1", *words)
    told = f"was made with another config: {named}; name another --out"
    assert str(refused.value) == f"{tmp_path / 'run' / 'checkpoint.pt'} {told}"
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_a_run_does_not_go_on_with_another_validation_set(
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


def test_a_checkpoint_that_does_not_say_what_it_was_measured_on_is_refused(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    assert train(coco, weights, tmp_path / "run", "--steps", "1") == 0
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path)
    del content["config"]["val_sha256"]
    torch.save(content, path)
    with pytest.raises(InputError, match="another config: an unknown --val; "):
        train(coco, weights, tmp_path / "run", "--steps", "1")


def test_a_run_does_not_go_on_with_other_weights_or_data(
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


def test_a_rectified_run_goes_on_with_its_own_stem(
    coco: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect_label_state, "RECTIFIED_AT", InputSize(32, 32))
    assert train(coco, weights, tmp_path / "run", "--rectify") == 0
    made = (tmp_path / "run" / "rectified.pt").stat()
    assert train(coco, weights, tmp_path / "run", "--rectify") == 0
    assert (tmp_path / "run" / "rectified.pt").stat().st_mtime_ns == made.st_mtime_ns
    assert yolox.is_rectified(tmp_path / "run" / "latest.pt")
    assert not yolox.is_rectified(weights)


def test_new_labels_start_from_nothing_and_are_kept_with_the_weights(
    coco: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(coco, weights, tmp_path / "run", "--labels", "person,forklift") == 0
    assert "does not know every label" in caplog.text
    made = tmp_path / "run" / "best.pt"  # kept, though it finds nothing yet
    assert yolox.stored_labels(made) == ("person", "forklift")
    assert yolox.origin(made).startswith("random; then labels of")
    fresh = yolox.load(weights, labels=("person", "forklift")).heads[0].class_logits
    known = yolox.load(weights).heads[0].class_logits
    assert torch.equal(fresh.weight[0], known.weight[0])
    assert not fresh.weight[1].any()


def test_without_an_object_to_find_the_last_weights_are_kept(
    coco: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(json.loads(coco.read_text()) | {"annotations": []}))
    assert train(coco, weights, tmp_path / "run", "--val", str(empty), "--patience", "1") == 0
    (line,) = (line for line in caplog.messages if "no_objects" in line)
    assert line.endswith("/empty kept=the last weights, as best")
    assert yolox.origin(tmp_path / "run" / "best.pt").endswith(", 4 steps")


def test_a_training_that_diverges_is_told_and_keeps_the_best_before(
    coco: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeError, match=r"^by step 2 the loss became .*; give a lower --learning"):
        train(coco, weights, tmp_path / "run", "--learning-rate", "1e30")
    assert not (tmp_path / "run" / "best.pt").exists()


def test_labels_that_are_all_new_learn_as_known_ones_do(coco: Path, tmp_path: Path) -> None:
    data = dataset.read(coco, coco.parent)

    def rate(*names: str) -> float:
        config = detect.LabelTraining(labels=names)
        state = detect.start(config, yolox.WEIGHTS, tmp_path / "none.pt", torch.device("cpu"), data)
        layer = state.net.heads[0].class_logits.weight
        (group,) = (item for item in state.optimizer.param_groups if item["params"][0] is layer)
        return float(group["peak"])

    assert rate("forklift", "pallet") == pytest.approx(rate("person", "car"), rel=0.5)


def test_a_teacher_of_more_labels_teaches_those_that_are_wanted(
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
def test_a_run_that_learns_from_nothing_is_refused(
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
def test_weights_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    if name.startswith("notes"):
        (tmp_path / name).write_text("these are notes, not weights")
    with pytest.raises(InputError, match=f"^weights {tmp_path / name}: "):
        yolox.load(tmp_path / name)


@pytest.mark.parametrize("content", ["{}", '{"graph": {}}', '{"images": [], "annotations": []}'])
def test_json_in_place_of_weights_is_one_line(coco: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"weights\.json: neither yolox_nano\.onnx nor"):
        train(coco, path, tmp_path / "run")


def test_weights_whose_parts_lie_elsewhere_are_one_line(tmp_path: Path) -> None:
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
def test_numbers_that_make_no_run_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path / "set.json", tmp_path / "w.pt", tmp_path / "run", *words)
    assert f"argument {words[0]}: '{words[1]}' is no" in capsys.readouterr().err


def test_sizes_that_the_network_cannot_take_are_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="multiples of 32"):
        detect._sizes("256,300")
