"""Training of the detector from labels: targets and augmentation."""

from __future__ import annotations

import math
import random
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge.errors import InputError  # noqa: E402
from tools import dataset  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.coco_labels import NAMES  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.train import assign, detect, detect_augment, labels  # noqa: E402
from tools.train.sampler import sampler  # noqa: E402

ROOT = Path(__file__).parents[1]
LABELS = {1: "person", 3: "car"}


def picture(**changes: object) -> dataset.Picture:
    fields: dict[str, object] = {
        "image_id": 1, "path": Path("1.png"), "width": 80, "height": 60, "source": "",
        "exhaustive_classes": frozenset({"person"}), "ignore_regions": (),
    }  # fmt: skip
    return dataset.Picture(**(fields | changes))  # type: ignore[arg-type]


def targets(
    annotations: list[dict[str, object]], detections: list[dict[str, object]]
) -> labels.LabelledPicture:
    data = dataset.Dataset("set", (picture(),), LABELS, tuple(annotations))
    (labelled,) = labels.build_targets(data, detections, yolox.LABELS)
    return labelled


def teacher_detection(score: float, bbox: list[float]) -> dict[str, object]:
    car = yolox.LABELS.index("car")
    return {"image_id": 1, "category_id": car, "bbox": bbox, "score": score}


def test_confident_teacher_boxes_become_targets_and_uncertain_ones_are_ignored() -> None:
    labelled = targets(
        [], [teacher_detection(0.9, [0, 0, 10, 10]), teacher_detection(0.2, [40, 0, 10, 20])]
    )
    assert labelled.labels.tolist() == [yolox.LABELS.index("car")]
    assert labelled.boxes.tolist() == [[0, 0, 10, 10]]
    assert labelled.ignored.tolist() == [[40, 0, 50, 20]]


def test_annotated_object_gets_no_second_teacher_box() -> None:
    car = {"image_id": 1, "category_id": 3, "bbox": [1, 0, 10, 10], "iscrowd": 0}
    person = car | {"category_id": 1}  # in the car
    found = [teacher_detection(0.9, [0, 0, 10, 10])]
    assert len(targets([car], found).boxes) == 1
    assert len(targets([person], found).boxes) == 2


def test_crowds_and_ignore_regions_are_ignored() -> None:
    crowd = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10], "iscrowd": 1}
    shown = picture(ignore_regions=((20.0, 0.0, 5.0, 6.0),))
    (labelled,) = labels.build_targets(
        dataset.Dataset("set", (shown,), LABELS, (crowd,)), [], yolox.LABELS
    )
    assert not len(labelled.boxes)
    assert labelled.ignored.tolist() == [[1, 2, 11, 12], [20, 0, 25, 6]]


def test_class_without_labels_or_teacher_is_refused(weights: Path) -> None:
    data = dataset.Dataset("yard", (picture(),), {1: "forklift"}, ())
    labels.refuse_unknown(data, ["person", "forklift"], weights)
    with pytest.raises(InputError, match=r"--labels forklfit: .* yard, which has forklift"):
        labels.refuse_unknown(data, ["person", "forklfit"], weights)


@pytest.mark.parametrize("text", ["person,bottle/can", "c#", "a" * 65])
def test_invalid_class_names_are_refused_before_the_training(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="become MQTT topics"):
        detect._names(text)


def test_class_name_with_a_comma_is_given_in_quotes(weights: Path) -> None:
    assert detect._names('person, "truck, large"') == ("person", "truck, large")
    data = dataset.Dataset("yard", (picture(),), {1: "truck, large", 2: "van"}, ())
    with pytest.raises(InputError, match=r"""--labels '"truck, large",van'$"""):
        labels.refuse_unknown(data, ("person",), weights)


@pytest.mark.parametrize("text", ["", "person,,cat", "person,person", "person\ncat"])
def test_class_names_that_are_missing_or_twice_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="different names, separated by commas"):
        detect._names(text)


def test_set_without_labels_of_the_detector_is_refused(weights: Path) -> None:
    data = dataset.Dataset("fruit", (picture(),), {1: "apple", 2: "red pear"}, ())
    with pytest.raises(InputError, match=r"none of its categories .* --labels 'apple,red pear'"):
        labels.refuse_unknown(data, ("person",), weights)


def test_category_without_an_object_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    person = {"image_id": 1, "category_id": 1, "bbox": [1, 0, 10, 10]}
    data = dataset.Dataset("yard", (picture(),), {1: "person", 2: "car"}, (person,))
    labels.build_targets(data, [], ("person", "car"))
    assert caplog.messages == ["train.untaught set=yard label=car objects=0"]


def test_categories_that_the_detector_lacks_are_reported_with_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    person = {"image_id": 1, "category_id": 1, "bbox": [1, 0, 10, 10]}
    motorbike = {"image_id": 1, "category_id": 2, "bbox": [1, 0, 10, 10]}
    names = {1: "person", 2: "motorbike"}
    data = dataset.Dataset("set", (picture(),), names, (person, motorbike, motorbike))
    (labelled,) = labels.build_targets(data, [], yolox.LABELS)
    assert len(labelled.boxes) == 1
    (line,) = caplog.messages
    assert "category=motorbike objects=2" in line


def test_boxes_outside_of_their_picture_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shown = picture()
    boxes = [[1, 0, 10, 10], [shown.width, 0, 10, 10], [-10, -10, 10, 10], [-5, 0, 10, 10]]
    found = tuple({"image_id": 1, "category_id": 1, "bbox": box} for box in boxes)
    data = dataset.Dataset("set", (shown,), {1: "person"}, found)
    (labelled,) = labels.build_targets(data, [], yolox.LABELS)
    assert labelled.boxes[:, 0].tolist() == [1, -5]
    (line,) = caplog.messages
    assert "train.outside set=set objects=2" in line


def test_teacher_labels_the_detector_classes_missing_in_a_set(
    tmp_path: Path,
) -> None:
    golden = ROOT / "models" / "yolox-nano-352" / "golden.jpg"
    known = picture(path=golden, width=768, height=576)
    data = dataset.Dataset("set", (known,), {1: "person"}, ())
    size = InputSize(352, 288)
    names = yolox.LABELS
    found = labels.teacher_detections(yolox.WEIGHTS, data, size, names, tmp_path / "a.json")
    assert "car" in {names[item["category_id"]] for item in found}
    assert "person" not in {names[item["category_id"]] for item in found}
    (labelled,) = labels.build_targets(data, found, names)
    assert names.index("car") in labelled.labels
    assert (
        labels.teacher_detections(yolox.WEIGHTS, data, size, ["person"], tmp_path / "b.json") == []
    )


def test_teacher_with_coco_labels_teaches_additional_classes(
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
    labels.teacher_detections(published, data, InputSize(64, 64), names, tmp_path / "found.json")
    assert asked == [(names, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_augmentation_moves_boxes_with_the_pixels(coco: Path, seed: int) -> None:
    labelled = labels.build_targets(dataset.read(coco, coco.parent), [], yolox.LABELS)
    chance = random.Random(seed)
    kind = detect_augment.mosaic if seed % 2 else detect_augment.single
    sample = kind(labelled[:4], 128, chance) if seed % 2 else kind(labelled[0], 128, chance)
    gray = sample.image.max(2).astype(float)
    assert len(sample.boxes)
    for left, top, right, bottom in sample.boxes.round().astype(int):
        inside = gray[top:bottom, left:right]
        around = gray[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4]
        assert np.median(inside) > 1.2 * np.percentile(around, 5)


def test_batch_of_a_step_is_reproducible(coco: Path) -> None:
    labelled = labels.build_targets(dataset.read(coco, coco.parent), [], yolox.LABELS)
    config = detect.LabelTraining(batch=2, sizes=(64, 96))
    pictures = sampler(labelled, 0.5)
    first, again, other = (
        detect._batch(config, pictures, step, torch.device("cpu"))[0] for step in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_pictures_of_rare_labels_are_sampled_more_often() -> None:
    car = {"image_id": 1, "category_id": 3, "bbox": [1, 0, 10, 10]}
    person = {"image_id": 1, "category_id": 1, "bbox": [1, 0, 10, 10]}
    cars, persons = targets([car], []), targets([person], [])
    pictures = [cars, *[persons] * 9]

    def share_of_cars(balance: float) -> float:
        drawn = sampler(pictures, balance).draw(2000, random.Random(1))
        return sum(labelled is cars for labelled in drawn) / 2000

    assert share_of_cars(0.0) == pytest.approx(0.1, abs=0.03)
    assert share_of_cars(0.5) == pytest.approx(3 / 12, abs=0.03)
    assert share_of_cars(1.0) == pytest.approx(0.5, abs=0.03)


def test_picture_weighs_as_its_rarest_label_and_without_objects_as_the_commonest() -> None:
    car = {"image_id": 1, "category_id": 3, "bbox": [1, 0, 10, 10]}
    person = car | {"category_id": 1}
    persons, both, nothing = targets([person], []), targets([person, car], []), targets([], [])
    assert sampler([persons, persons, both, nothing], 1.0).cumulative == [1, 2, 5, 6]
    assert sampler([nothing, nothing], 1.0).cumulative == [1, 2]


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


def test_loss_is_lower_for_correct_than_for_shifted_boxes() -> None:
    shown = truth([[16.0, 16.0, 32.0, 32.0]], [])
    right, wrong = outputs(), outputs()
    for made, shift in ((right, 0.0), (wrong, 0.8)):
        cell = made["box_16"][0, :, 1, 1]
        cell += torch.tensor([0.5 + shift, 0.5, 0.0, 0.0])
        made["objectness_16"][0, 0, 1, 1] = 3
    assert assign.loss(right, [shown], yolox.STRIDES) < assign.loss(wrong, [shown], yolox.STRIDES)


def test_loss_of_one_object_is_that_of_the_method() -> None:
    """One object over the middle of 3x3 cells, whose box it overlaps by 48 of 80 pixels."""
    made = {"box_8": torch.zeros(1, 4, 3, 3), "objectness_8": torch.zeros(1, 1, 3, 3)}
    made["class_8"] = torch.zeros(1, 2, 3, 3)
    made["class_8"][0, 0] = 1.0
    shown = truth([[6.0, 4.0, 14.0, 12.0]], [[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 16.0]])
    log2 = math.log(2)
    box = 5 * (1 - 0.6**2)
    classes = math.log(1 + math.e) - 0.6 + log2
    objectness = 8 * log2  # all but the ignored corner; the object's own cell counts
    found = float(assign.loss(made, [shown], (8,)))
    assert found == pytest.approx(box + classes + objectness, abs=1e-5)


def test_cells_inside_an_ignored_box_are_not_background() -> None:
    made = outputs()
    made["objectness_8"] += 5
    whole = [[0.0, 0.0, 64.0, 64.0]]
    assert assign.loss(made, [truth([], whole)], yolox.STRIDES) == 0
    assert assign.loss(made, [truth([], [])], yolox.STRIDES) > 0


def test_cell_is_assigned_to_one_object_only() -> None:
    boxes = [[8.0, 8.0, 24.0, 24.0], [16.0, 16.0, 40.0, 40.0]]
    cells = assign.decode_cells(outputs(), yolox.STRIDES)
    one = assign.Cells(
        cells.corners[0], cells.objectness[0], cells.classes[0], cells.centers, cells.strides
    )
    chosen, objects, _ = assign.assign(one, truth(boxes, []))
    assert len(chosen) == len(set(chosen.tolist()))
    assert set(objects.tolist()) == {0, 1}


def test_contested_cell_goes_to_the_cheaper_object_and_no_object_to_a_far_cell() -> None:
    far = 1e6
    cost = torch.tensor([[2.0, 5.0, far], [1.0, far, far + 5], [far + 1, far + 2, far]])
    overlap = torch.tensor([[0.9, 0.8, 0.6], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])  # 2, 1, 1 cells
    matched = assign._dynamic_k_match(cost, overlap)
    assert matched.tolist() == [[False, True, False], [True, False, False], [False] * 3]


def test_saved_weights_are_the_same_network(weights: Path) -> None:
    value = torch.rand(1, 3, 64, 64) * 255
    groups = [[5, 3, 9], [0, 1, 2, 4, 6, 7, 8], list(range(10, 16))]
    with torch.no_grad():
        whole, split = yolox.load(weights)(value), yolox.load(weights, groups)(value)
    for name, wanted in whole.items():
        assert torch.allclose(split[name], wanted, atol=1e-4)
