"""Rows that cannot be used: an error that names the file and the row, from every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rich", reason="pip install 'edge-camera[tools]'")

from edge.errors import InputError
from scenes import write_boxes, write_scenes
from tools.annotate.view import view_of
from tools.cli import main
from tools.color.data import dataset
from tools.color.data.objects import read_objects

MODEL = Path(__file__).parents[1] / "models" / "color-64"
PRODUCT = {"file_name": "a.png", "split": "train", "color": "red", "source": "mine"}
SCENE = {"file_name": "a.png", "split": "train", "image": "a.png", "bbox": [2, 2, 8, 8], "cls": ""}
SCENE |= {"label_1": "red", "sure_1": True, "label_2": "red", "sure_2": True, "agreed": "red"}


def write(folder: Path, name: str, rows: object) -> Path:
    """Write the rows of one of the two sets, and the picture they name; return the data folder."""
    for place in (f"{name}/val", "detection/train"):
        (folder / place).mkdir(parents=True)
    for place in (name, f"{name}/val", "detection/train"):
        cv2.imwrite(str(folder / place / "a.png"), np.full((12, 16, 3), 90, np.uint8))
    content = rows if isinstance(rows, str) else json.dumps(rows)
    (folder / name / "labels.json").write_text(content)
    return folder


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in SCENE.items() if name != key}


WRONG = {
    "unknown color": ("color", PRODUCT | {"color": "teal"}, "row 2: color 'teal' is none of black"),
    "no color": ("color", PRODUCT | {"color": None}, "row 2: color None is none of"),
    "no file": ("color", PRODUCT | {"file_name": 3}, "row 2: file_name 3 is not a file name"),
    "source of scenes": ("color", PRODUCT | {"source": "scene"}, "row 2: source 'scene' is of obj"),
    "unknown label": ("scene_color", SCENE | {"label_1": "teal"}, "row 2: label_1 'teal' is none"),
    "odd colors": ("scene_color", SCENE | {"colors_1": "red"}, "row 2: colors_1 'r' is none of"),
    "no label": ("scene_color", {"split": "train", "image": "a.png"}, "row 2 has no 'label_1'"),
    "no agreed": ("scene_color", without("agreed"), "row 2 has no 'agreed'; add it"),
    "no sure": ("scene_color", without("sure_2"), "row 2 has no 'sure_2'; add it"),
    "no split": ("scene_color", without("split"), "row 2 has no 'split'; add it"),
    "no box": ("scene_color", SCENE | {"bbox": ["a", 1, 2, 3]}, "row 2: bbox ['a', 1, 2, 3] is"),
    "odd image": ("scene_color", SCENE | {"image": 5}, "row 2: image 5 is not a file name"),
    "short box": ("scene_color", SCENE | {"bbox": [1, 2]}, "row 2: bbox [1, 2] is not x, y,"),
}


@pytest.mark.parametrize("case", WRONG)
def test_row_without_color_or_place_is_named(case: str, tmp_path: Path) -> None:
    name, row, message = WRONG[case]
    good = PRODUCT if name == "color" else SCENE
    with pytest.raises(InputError) as caught:
        dataset.training_items(write(tmp_path, name, [good, row]))
    assert f"{name}/labels.json: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON (Expecting value"),
        ('["a"]', "not a list of labelled objects"),
        ('{"images": []}', "not a list of labelled objects"),
    ],
)
def test_file_that_is_not_a_list_of_rows_is_a_one_line_error(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, "color", content) / "color"
    assert main(["evaluate", "color", str(MODEL), "--data", str(folder)]) == 66
    (line,) = capsys.readouterr().err.splitlines()
    assert f"color/labels.json: {message}" in line


def test_row_of_another_split_is_not_validated(tmp_path: Path) -> None:
    other = PRODUCT | {"split": "later", "color": "teal"}
    assert len(dataset.training_items(write(tmp_path, "color", [PRODUCT, other]))) == 1


def test_rows_without_any_color_are_refused_as_training_data(tmp_path: Path) -> None:
    dark = {"label_1": "unclear", "label_2": "unclear", "agreed": "unclear"}
    with pytest.raises(InputError, match="no training row names a color"):
        dataset.training_items(write(tmp_path, "scene_color", [SCENE | dark]))


@pytest.mark.parametrize("box", [[16, 0, 4, 4], [0, 12, 4, 4], [-4, 0, 4, 4], [0, -4, 4, 4]])
def test_a_box_outside_its_picture_is_named(box: list[int], tmp_path: Path) -> None:
    data = write(tmp_path, "scene_color", [SCENE | {"bbox": box}])
    items = dataset.training_items(data)
    (one,) = read_objects(data / "scene_color", data / "detection" / "train")
    for read in (lambda: list(dataset.read_crops(items)), lambda: view_of(one)):
        assert_outside(read)


def assert_outside(read: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"a\.png: the box .* lies outside of its 16x12 pixels"):
        read()


@pytest.mark.parametrize("box", [[15.7, 11.8, 4, 4], [-3, -3, 3.2, 3.2], [15, 11, 0, 0]])
def test_box_that_barely_overlaps_its_picture_has_a_pixel(box: list[float], tmp_path: Path) -> None:
    items = dataset.training_items(write(tmp_path, "scene_color", [SCENE | {"bbox": box}]))
    ((crop, _),) = dataset.read_crops(items)
    assert crop.size


@pytest.mark.parametrize("content", ["x", "[]", '{"images": [{"id": 1}]}'])
def test_a_broken_detection_set_is_named(content: str, tmp_path: Path) -> None:
    data = write(tmp_path, "scene_color", [SCENE])
    (data / "detection" / "train.json").write_text(content)
    items = dataset.training_items(data)
    with pytest.raises(InputError, match=r"train\.json: not COCO JSON"):
        dataset.unlabelled_items(data, items, 14)
    (data / "scene_color" / "more.json").write_text("[]")
    with pytest.raises(InputError, match=r"train\.json: not COCO JSON"):
        dataset.training_items(data)


def test_parent_of_a_labelled_folder_is_refused_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "scene_color").mkdir()
    (tmp_path / "scene_color" / "labels.json").write_text("[]")
    with pytest.raises(InputError, match=r"--data, such as .*/scene_color$"):
        dataset.read_set(tmp_path, "val")


@pytest.mark.parametrize("command", ["annotate", "label"])
def test_a_folder_without_the_pictures_is_told_at_the_start(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "pictures", ("red", "blue"))
    boxes = write_boxes(tmp_path / "pictures", ["0-red.png", "1-blue.png"])
    (tmp_path / "empty").mkdir()
    assert main([command, "color", str(boxes), "--images", str(tmp_path / "empty")]) == 66
    (line,) = capsys.readouterr().err.splitlines()
    assert "empty/0-red.png: No such file or directory, nor any other picture of" in line
    assert line.endswith("name their folder with --images")
