"""YOLO's class names as `edge-tools data import` reads them: by number, from YAML or text."""

from __future__ import annotations

from pathlib import Path

import pytest

import labelled
from edge.errors import EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK
from labelled import document, imported
from tools.data.formats import yolo


def yolo_of(root: Path, names: str, numbers: list[int]) -> Path:
    """A picture with an object of each class number, and a YAML file of names."""
    source = labelled.yolo(root, 1)
    lines = [f"{number} .5 .5 .2 .2\n" for number in numbers]
    (source / "labels" / "train" / "0.txt").write_text("".join(lines))
    (source / "data.yaml").write_text(f"names: {names}\n")
    return source


def labels_in(output: Path) -> list[str]:
    made = document(output)
    names = {item["id"]: item["name"] for item in made["categories"]}
    return [names[item["category_id"]] for item in made["annotations"]]


def test_hidden_macos_files_are_ignored(tmp_path: Path) -> None:
    source = yolo_of(tmp_path / "own", "[person]", [0])
    (source / "._data.yaml").write_bytes(b"\0\5\x16\7\xff")
    (listed,) = yolo.read(source, None).entries
    assert [one.label for one in listed.objects] == ["person"]


def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = yolo_of(tmp_path / "own", "{2: car, 0: person}", [0])
    assert yolo.read(source, None).classes == ["person", "car"]


QUOTED = "{" + ", ".join(f"'{number}': name{number}" for number in range(12)) + "}"


@pytest.mark.parametrize(
    ("names", "numbers", "labels"),
    [
        ("{1: person, 2: car}", [1, 2], ["person", "car"]),
        ("{0: person, 2: car}", [0, 2], ["person", "car"]),
        ("{2: car, 0: person}", [0, 2], ["person", "car"]),
        (QUOTED, [1, 2, 10, 11], ["name1", "name2", "name10", "name11"]),
        ("{0: person, '1': car}", [0, 1], ["person", "car"]),
        ("[pet, person, pet]", [0, 1, 2], ["pet", "person", "pet"]),
        ("[no, yes, ~]", [0, 1, 2], ["no", "yes", "~"]),
        ("[1.50, 007, 12:30:00]", [0, 1, 2], ["1.50", "007", "12:30:00"]),
        ("{0: &first no, 1: ' a b '}", [0, 1], ["no", "a b"]),
    ],
)
def test_yolo_classes_have_the_numbers_of_the_names_entry(
    tmp_path: Path, names: str, numbers: list[int], labels: list[str]
):
    source = yolo_of(tmp_path / "source", names, numbers)
    assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    assert labels_in(tmp_path / "set") == labels


def test_yolo_class_without_a_name_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = yolo_of(tmp_path / "source", "{0: person, 2: car}", [0, 1, 2])
    assert imported(source, "yolo", tmp_path / "set") == EXIT_FAILURE
    assert "0.txt:2: class '1'; there are 2 classes from 0 to 2" in capsys.readouterr().err
    assert labels_in(tmp_path / "set") == ["person", "car"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{person: 0}", "'person' is not a whole number of at least 0"),
        ("{0: person, car: 1}", "'car' is not a whole number of at least 0"),
        ("{-1: person}", "'-1' is not a whole number of at least 0"),
        ("{0.5: person}", "'0.5' is not a whole number of at least 0"),
        ("{true: person}", "'true' is not a whole number of at least 0"),
        ("{0: person, '0': car}", "0 occurs twice"),
        ("{0: person, 0: car}", "0 occurs twice"),
        ("{0: person, 1: }", "class 1 has no name"),
        ("[person, {x: 1}]", "class 1 has no name"),
        ("{}", "no YAML file with names"),
        ("2026-99-99", "no YAML file with names"),
        ("[person", "not YAML"),
    ],
)
def test_yolo_names_without_numbers_are_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: str, message: str
):
    source = yolo_of(tmp_path / "source", names, [0])
    assert imported(source, "yolo", tmp_path / "set") == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_byte_order_mark_of_classes_txt_is_ignored(tmp_path: Path):
    source = yolo_of(tmp_path / "source", "[other]", [0, 2])
    (source / "classes.txt").write_bytes("\ufeffcafé\r\n\r\ncar\r\n".encode())
    assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    assert labels_in(tmp_path / "set") == ["café", "car"]


@pytest.mark.parametrize("name", ["classes.txt", "data.yaml"])
def test_yolo_names_that_are_not_utf8_are_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    source = yolo_of(tmp_path / "source", "[other]", [0])
    (source / name).write_bytes("names: [café]\n".encode("latin-1"))
    assert imported(source, "yolo", tmp_path / "set") == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: not UTF-8; save it as UTF-8" in line


def test_yaml_file_given_instead_of_its_folder_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "data.yaml"
    file.write_text("names: [cat]\n")
    assert imported(file, "yolo", tmp_path / "set") == EXIT_NO_INPUT
    assert f"{file}: a file; name the folder that holds it" in capsys.readouterr().err


@pytest.mark.parametrize("points", [".4 .4 .6 .6", ".4 .4 2 .6 .6 2 .5 .5 1"])
def test_key_points_are_ignored(tmp_path: Path, points: str):
    source = yolo_of(tmp_path / "source", "[cat]\nkpt_shape: [2, 2]", [0])
    labels = source / "labels" / "train" / "0.txt"
    imported(source, "yolo", tmp_path / "plain")
    labels.write_text(labels.read_text().strip() + f" {points}\n")
    assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    assert document(tmp_path / "set")["annotations"] == document(tmp_path / "plain")["annotations"]


def test_an_outline_becomes_the_box_around_it():
    fields = ["1", "0.5", "0.2", "0.75", "0.5", "0.25", "0.625"]
    found = yolo._labelled(fields, {0: "cat", 1: "dog"})
    assert (found.label, found.is_relative) == ("dog", True)
    assert found.bbox == pytest.approx((0.25, 0.2, 0.5, 0.425))
    with pytest.raises(ValueError, match="6 fields"):
        yolo._labelled(fields[:6], {1: "dog"})
