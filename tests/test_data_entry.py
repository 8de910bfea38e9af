"""Names, numbers and boxes as files of labels have them, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

import labelled
from edge.errors import InputError
from tools.data import entry
from tools.data.entry import (
    Entry,
    Labelled,
    Listing,
    clipped_to_picture,
    region,
    safe_name,
    whole_number,
)
from tools.data.formats import yolo


@pytest.mark.parametrize("name", ["", "/etc/a.jpg", "../a.jpg", "a/../../b.jpg", "..\\a.jpg"])
def test_names_outside_of_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="leads out of the picture folder"):
        safe_name(name)


def test_windows_paths_are_read() -> None:
    assert safe_name("a\\b..c.jpg") == "a/b..c.jpg"


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), (7.0, 7), (-1, -1)])
def test_ids_are_integers_also_as_text(value: object, number: int) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize("value", [7.5, "7.5", "a", None, [7], float("inf")])
def test_non_integer_ids_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        whole_number(value)


@pytest.mark.parametrize("values", ["1234", {1, 2, 3, 4}, [1, 2, 3], [1, 2, 3, 4, 5], None])
def test_a_box_is_a_list_of_four_numbers(values: object) -> None:
    with pytest.raises(ValueError, match="is not x, y, width, height"):
        region(values)


@pytest.mark.parametrize(
    ("bbox", "inside", "is_reported"),
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), False),
        ((2, 3, 0.5, 0.5), (2, 3, 0.5, 0.5), False),
        ((-1, -1, 12, 12), (0, 0, 10, 8), True),  # 3 px below
        ((-1, 0, 4, 4), (0, 0, 3, 4), False),  # a format that counts from 0 or 1
        ((-1.5, 0, 4, 4), (0, 0, 2.5, 4), True),
        ((0, -1.5, 4, 4), (0, 0, 4, 2.5), True),
        ((7, 0, 4.5, 4), (7, 0, 3, 4), True),
        ((7, 0, 4, 4), (7, 0, 3, 4), False),
        ((0, 5, 4, 4.5), (0, 5, 4, 3), True),
    ],
)
def test_box_beyond_its_picture_is_clipped_and_reported(
    bbox: tuple[float, float, float, float],
    inside: tuple[float, float, float, float],
    is_reported: bool,
) -> None:
    found, message = clipped_to_picture(Labelled("cat", bbox), (10, 8))
    assert found == inside
    assert (message is not None) is is_reported
    shares = (bbox[0] / 10, bbox[1] / 8, bbox[2] / 10, bbox[3] / 8)
    relative, _told = clipped_to_picture(Labelled("cat", shares, is_relative=True), (10, 8))
    assert relative == pytest.approx(inside)


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ((2, 2, 0, 4), "is empty"),
        ((2, 2, 4, 0), "is empty"),
        ((2, 2, 4, -1), "is empty"),
        ((10, 2, 4, 4), "is outside the picture of 10x8"),
        ((2, 8, 4, 4), "is outside the picture of 10x8"),
        ((-4, 2, 4, 4), "is outside the picture of 10x8"),
        ((2, -4, 4, 4), "is outside the picture of 10x8"),
    ],
)
def test_box_outside_its_picture_is_refused(
    bbox: tuple[float, float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clipped_to_picture(Labelled("cat", bbox), (10, 8))


def test_pictures_are_found_in_all_folders_by_their_suffix_in_order(tmp_path: Path) -> None:
    names = ["b/2.JPG", "a.png", "b/1.jpeg", "b/deep/0.webp", "c.bmp", "d.tif", "e.tiff"]
    for name in (*names, "notes.txt", ".trash/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in entry.pictures_below(tmp_path)]
    assert found == sorted(names)


def test_missing_folder_of_pictures_is_named(tmp_path: Path) -> None:
    source = labelled.yolo(tmp_path / "own", 1)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        yolo.read(source, tmp_path / "nowhere")


def test_renaming_keeps_exhaustive_only_classes_whose_parts_all_were(tmp_path: Path) -> None:
    known = ("bus", "car", "dog", "van")
    picture = Entry(tmp_path / "a.png", "a.png", (), exhaustive_classes=known)
    listing = Listing([picture], ["bus", "car", "cat", "dog", "van"])
    listing.rename({"van": "truck", "dog": "animal", "cat": "animal"})
    assert listing.classes == ["bus", "car", "animal", "truck"]
    assert listing.entries[0].exhaustive_classes == ("bus", "car", "truck")
