"""Pascal VOC sets whose pictures have the same names in several folders."""

from __future__ import annotations

from pathlib import Path

import pytest

import labelled
from edge.errors import EXIT_FAILURE, EXIT_OK
from labelled import document, imported

pytest.importorskip("imagehash")
pytest.importorskip("defusedxml")


@pytest.mark.parametrize("xml", ["{}/1.xml", "Annotations/{}/1.xml", "{}/Annotations/1.xml"])
def test_pictures_of_one_name_keep_their_own_labels(tmp_path: Path, xml: str):
    source = tmp_path / "source"
    picture = xml.replace("Annotations", "JPEGImages").replace(".xml", ".jpg")
    for seed, (day, label) in enumerate({"mon": "cat", "tue": "dog"}.items()):
        labelled.save(source / picture.format(day), seed)
        write_xml(source / xml.format(day), label)
    assert imported(source, "voc", tmp_path / "set") == EXIT_OK
    names = {day: picture.format(day).removeprefix("JPEGImages/") for day in ("mon", "tue")}
    assert labels(tmp_path / "set") == {names["mon"]: ["cat"], names["tue"]: ["dog"]}


def test_voc_file_with_a_missing_picture_takes_no_other_of_that_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "source"
    picture = labelled.save(source / "tue" / "1.jpg", 1)
    write_xml(source / "mon" / "1.xml", "cat")
    write_xml(source / "tue" / "1.xml", "dog")
    assert imported(source, "voc", tmp_path / "set") == EXIT_FAILURE
    assert labels(tmp_path / "set") == {"tue/1.jpg": ["dog"]}
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{source}/mon/1.xml: its picture is missing; {picture} has its own file"


def test_voc_file_in_none_of_the_matching_folders_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "source"
    for seed, day in enumerate(("mon", "tue")):
        labelled.save(source / "JPEGImages" / day / "1.jpg", seed)
    labelled.save(source / "JPEGImages" / "2.jpg", 3)
    write_xml(source / "Annotations" / "1.xml", "cat")
    write_xml(source / "Annotations" / "2.xml", "cat", "2.jpg")
    assert imported(source, "voc", tmp_path / "set") == EXIT_FAILURE
    assert labels(tmp_path / "set") == {"2.jpg": ["cat"]}
    assert "1.xml: 2 pictures are named 1.jpg, none in this folder" in capsys.readouterr().err


def test_name_without_suffix_matches_a_picture_of_any_format(tmp_path: Path):
    labelled.save(tmp_path / "source" / "n0208_1.png", 1)
    write_xml(tmp_path / "source" / "n0208_1.xml", "dog", "n0208_1")
    assert imported(tmp_path / "source", "voc", tmp_path / "set") == EXIT_OK
    assert labels(tmp_path / "set") == {"n0208_1.png": ["dog"]}


def test_hidden_macos_files_are_ignored(tmp_path: Path):
    source = labelled.voc(tmp_path / "source", 2)
    (source / "JPEGImages" / "._0.jpg").write_bytes(b"\0\5\x16\7")
    (source / "Annotations" / "._0.xml").write_bytes(b"\0\5\x16\7")
    assert imported(source, "voc", tmp_path / "set") == EXIT_OK
    assert sorted(labels(tmp_path / "set")) == ["0.jpg", "1.jpg"]


def write_xml(path: Path, label: str, picture: str = "1.jpg") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(labelled.voc_xml(picture, label))


def labels(folder: Path) -> dict[str, list[str]]:
    """The classes of each picture's objects."""
    content = document(folder)
    classes = {item["id"]: item["name"] for item in content["categories"]}
    return {
        image["file_name"]: [
            classes[item["category_id"]]
            for item in content["annotations"]
            if item["image_id"] == image["id"]
        ]
        for image in content["images"]
    }
