from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from color_crops import CPU, SMALL, patches
from edge.color import TERMS, ColorModel
from edge.errors import InputError
from edge.interpreter import Interpreter
from tools.color.data import arrays, dataset
from tools.train import color as training
from tools.train import color_teacher
from tools.train.color_augment import plain
from tools.train.color_teacher import Teachers

MODELS = Path(__file__).parent.parent / "models"


def test_teachers_answer_as_the_daemon_would_and_are_averaged() -> None:
    folders = [MODELS / "color-64", MODELS / "color-96"]
    teachers = Teachers(folders)
    assert teachers.side_px == 96
    assert [name.split()[0] for name in teachers.names] == ["color-64", "color-96"]
    chance = np.random.default_rng(3)
    rgb = chance.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    found = teachers.shares(plain(torch.from_numpy(rgb)), torch.tensor([arrays.NO_CLASS, 2]))
    models = [ColorModel(Interpreter.load(folder)) for folder in folders]
    for row, label in enumerate((None, "car")):
        answers = [model.classify(rgb[row, ..., ::-1], label) for model in models]
        by_name = [{share.name: share.score for share in answer} for answer in answers]
        wanted = [(by_name[0][term] + by_name[1][term]) / 2 for term in TERMS]
        assert found[row].tolist() == pytest.approx(wanted, abs=1e-6)


def test_teachers_in_several_threads_give_the_same_answers_in_order() -> None:
    folders = [MODELS / "color-64"]
    rgb = np.random.default_rng(3).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    pixels, classes = plain(torch.from_numpy(rgb)), torch.arange(5)
    alone = Teachers(folders).shares(pixels, classes)
    for threads in (2, 4, 8):
        assert torch.equal(Teachers(folders, threads).shares(pixels, classes), alone)


def test_model_with_other_labels_cannot_teach(tmp_path: Path) -> None:
    for file in (MODELS / "color-64").iterdir():
        text = file.read_bytes()
        if file.name == "manifest.json":
            text = text.replace(b'"gray"', b'"grey"')
        (tmp_path / file.name).write_bytes(text)
    with pytest.raises(InputError, match="color-64 cannot teach: its labels are not the basic"):
        Teachers([tmp_path])


def test_labels_and_answers_are_mixed_and_answers_alone_label_other_boxes() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    answers = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    mixed = color_teacher.mixed(labels, answers, 0.5)
    assert mixed.flatten().tolist() == pytest.approx([0.75, 0.25, 0.2, 0.8])


def test_boxes_without_a_label_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "detection"
    (folder / "train").mkdir(parents=True)
    cv2.imwrite(str(folder / "train" / "a.png"), np.full((60, 120, 3), 30, np.uint8))
    boxes = [[0, 0, 60, 60], [60, 0, 60, 60], [3, 3, 4, 4], [60, 0, 60, 60]]
    content = {
        "images": [{"id": 1, "file_name": "train/a.png"}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": box, "iscrowd": number == 3}
            for number, box in enumerate(boxes)
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))
    shares = tuple(float(term == "blue") for term in TERMS)
    red = dataset.ColorItem(
        folder / "train" / "a.png", (0, 0, 60, 60), "more", "blue", shares, 1.0, "car"
    )
    (other,) = color_teacher.unlabelled([red], tmp_path)
    assert (other.box_px, other.object_class, other.label) == ((60, 0, 60, 60), "car", None)
    assert other.weight == color_teacher.UNLABELLED_WEIGHT


def test_network_learns_its_teachers_names_on_crops_without_labels(tmp_path: Path) -> None:
    unnamed = replace(patches(), shares=np.full((96, len(TERMS)), 1 / len(TERMS), np.float32))
    config = replace(SMALL, smoothing=0.0)
    beside = training.Beside(Teachers([MODELS / "color-64"]))
    network = training.train(config, unnamed, {}, tmp_path, CPU, beside).average
    with torch.no_grad():
        answers = network(training.inputs(config, patches(3), torch.arange(3), CPU))[
            "color"
        ].softmax(1)
    assert [TERMS[row] for row in answers.argmax(1)] == ["red", "green", "blue"]


def test_crops_are_shrunk_to_whole_levels() -> None:
    chance = np.random.default_rng(3)
    pixels = plain(torch.from_numpy(chance.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)))
    assert color_teacher.resized(pixels, 48) is pixels
    smaller = color_teacher.resized(pixels, 32)
    assert smaller.shape == (2, 3, 32, 32)
    assert torch.equal(smaller * 128, (smaller * 128).round())
    assert smaller.std() < pixels.std()
