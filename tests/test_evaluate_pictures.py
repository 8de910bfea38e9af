"""Pictures of hits and errors: selection, order, and position of boxes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("rich")

from edge import manifest
from tools.dataset import Dataset, Picture
from tools.evaluate import pictures, seen
from tools.evaluate.confusion import Match

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "yolox-nano-352"
LABELS = {1: "person", 2: "car"}


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((200, 300, 3), 90, np.uint8))
    return Picture(1, tmp_path / "1.png", 300, 200, "", frozenset(LABELS.values()), ())


def item(category: int, bbox: list[float], score: float = 0.0) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": bbox, "score": score}


def a_set(picture: Picture) -> Dataset:
    return Dataset("some", (picture,), LABELS, ())


def test_examples_alternate_hits_by_label_and_errors_by_kind(picture: Picture) -> None:
    small, large = [0.0, 0.0, 40.0, 10.0], [0.0, 0.0, 20.0, 50.0]
    person, car = item(1, small), item(2, small)
    found = [
        Match(picture, person, item(1, small, 0.9)),
        Match(picture, person, item(1, small, 0.8)),
        Match(picture, car, item(2, small, 0.4)),
        Match(picture, person, None),
        Match(picture, item(1, large), None),
        Match(picture, None, item(2, small, 0.6)),
        Match(picture, person, item(2, small, 0.5)),
        Match(picture, None, item(2, small, 0.3)),
        Match(picture, person, item(2, small, 0.7)),
    ]
    for given in (found, found[::-1]):
        hits, errors = pictures.choose(given, 5)
        assert hits == [found[0], found[2], found[1]]
        assert errors == [found[4], found[8], found[5], found[3], found[6]]


@pytest.mark.parametrize(
    ("truth", "found", "caption"),
    [
        (1, 1, "person 0.75"),
        (1, None, "missed person"),
        (1, 2, "car 0.75, is person"),
        (None, 2, "car 0.75, false alarm"),
    ],
)
def test_captions_name_label_score_and_kind_of_error(
    picture: Picture, truth: int | None, found: int | None, caption: str
) -> None:
    box = [20.0, 20.0, 30.0, 30.0]
    match = Match(
        picture,
        None if truth is None else item(truth, box),
        None if found is None else item(found, box, 0.75),
    )
    assert pictures.tile(match, a_set(picture)).caption == caption


@pytest.mark.parametrize("corner", [(0.0, 0.0), (270.0, 170.0), (140.0, 90.0)])
def test_boxes_stay_on_their_object_in_the_crop(
    picture: Picture, corner: tuple[float, float]
) -> None:
    bgr = np.full((200, 300, 3), 90, np.uint8)
    x, y = map(int, corner)
    bgr[y : y + 30, x : x + 30] = 255
    cv2.imwrite(str(picture.path), bgr)
    made = pictures.tile(Match(picture, item(1, [*corner, 30.0, 30.0]), None), a_set(picture))
    (box,) = made.boxes
    left, top = int(box.x), int(box.y)
    part = made.bgr[top : top + 30, left : left + 30]
    assert part.shape == (30, 30, 3)
    assert (part == 255).all()
    assert (made.bgr == 255).sum() == 30 * 30 * 3


def test_no_examples_write_no_file(picture: Picture, tmp_path: Path) -> None:
    pictures.write([], a_set(picture), tmp_path / "sheet.jpg")
    assert not (tmp_path / "sheet.jpg").exists()


def test_card_picture_is_drawn_from_shipped_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    (folder / "seen.jpg").unlink(missing_ok=True)
    seen.draw(folder)
    sheet = cv2.imread(str(folder / "seen.jpg"))
    assert sheet is not None
    assert sheet.shape[1] > 1000


def test_objects_of_classes_unknown_to_the_model_are_not_misses_on_its_card(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    (folder / "seen.jpg").unlink()
    own = manifest.read(folder)
    labels = tuple(f"kind {number}" for number in range(len(own.labels)))
    manifest.write(folder, msgspec.structs.replace(own, labels=labels, golden=None))
    seen.draw(folder)
    assert not (folder / "seen.jpg").exists()


def test_annotations_of_shipped_pictures_are_inside_the_picture() -> None:
    from tools import dataset

    data = dataset.read(seen.PICTURES / "labels.json", seen.PICTURES)
    sizes = {one.image_id: (one.width, one.height) for one in data.pictures}
    assert {one.path.name for one in data.pictures} == {
        path.name for path in seen.PICTURES.glob("*.jpg")
    }
    for picture in data.pictures:
        assert dataset.load(picture).shape[1::-1] == sizes[picture.image_id]
    for one in data.annotations:
        x, y, width, height = one["bbox"]
        assert min(x, y) >= 0
        assert x + width <= sizes[one["image_id"]][0]
        assert y + height <= sizes[one["image_id"]][1]
