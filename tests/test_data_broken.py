"""COCO files with broken annotations or no picture: refused in one line, listed by the check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labelled
from edge.errors import EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, InputError
from labelled import document, imported
from tools import dataset
from tools.cli import main
from tools.data import folder

pytest.importorskip("imagehash")

MODEL = Path(__file__).parents[1] / "models" / "yolox-nano-352"
BROKEN: list[tuple[object, str]] = [
    ("text", "is not a JSON object"),
    (7, "is not a JSON object"),
    ({"category_id": 9}, "category id 9 is not among the categories"),
    ({"category_id": None}, "has no 'category_id'"),
    ({"category_id": [1]}, "category_id [1] is not a whole number"),
    ({"bbox": None}, "has no 'bbox'"),
    ({"bbox": [1, 2, 3]}, "box [1, 2, 3] is not x, y, width, height"),
    ({"bbox": {"x": 1}}, "box {'x': 1} is not x, y, width, height"),
    ({"bbox": [1, 2, "wide", 3]}, "'wide' is not a number"),
    ({"bbox": [1, 2, float("nan"), 3]}, "nan is not a finite number"),
    ({"image_id": "first"}, "image_id 'first' is not a whole number"),
    ({"image_id": 1.5}, "image_id 1.5 is not a whole number"),
    ({"area": "much"}, "area 'much' is not a number"),
]


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """An imported set of 6 pictures."""
    imported(labelled.coco(tmp_path / "source", 6), "coco", tmp_path / "set")
    return tmp_path / "set"


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return file


def spoil(file: Path, broken: object, place: int = 2) -> Path:
    """Replace an annotation, or parts of it where `broken` names some."""

    def edit(content: dict[str, Any]) -> None:
        old = content["annotations"][place]
        content["annotations"][place] = old | broken if isinstance(broken, dict) else broken

    return change(file, edit)


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_broken_annotation_is_refused_by_readers_of_the_set(
    ready: Path, broken: object, message: str
):
    file = spoil(ready / "annotations.json", broken)
    with pytest.raises(InputError) as raised:
        dataset.read(file, ready / "images")
    name = 3 if isinstance(broken, dict) else 2
    assert f"annotations.json: a broken annotation ({name}: {message})" in str(raised.value)
    assert str(raised.value).endswith(f"; see edge-tools data check {file}")


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_the_check_lists_a_broken_annotation_beside_other_faults(
    ready: Path, capsys: pytest.CaptureFixture[str], broken: object, message: str
):
    file = spoil(ready / "annotations.json", broken)
    spoil(file, {"bbox": [0, 0, 500, 5]}, place=4)
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("box: ")]
    assert len(found) == 2
    assert found[0].endswith(f": {message}")
    assert "sticks out" in found[1]


def test_check_lists_an_annotation_without_a_picture(
    ready: Path, capsys: pytest.CaptureFixture[str]
):
    spoil(ready / "annotations.json", {"image_id": 99})
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    assert "box: set/annotations: annotation 3: no image with id 99\n" in capsys.readouterr().out


def test_broken_pictures_are_listed_in_order(ready: Path, capsys: pytest.CaptureFixture[str]):
    pictures = sorted((ready / "images").iterdir())
    for path in pictures:
        path.write_bytes(b"")
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")]
    assert [line.split(":")[1].strip() for line in lines] == list(map(str, pictures))


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_import_skips_a_broken_annotation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: object, message: str
):
    file = spoil(labelled.coco(tmp_path / "source", 6), broken)
    assert imported(file, "coco", tmp_path / "set") == EXIT_FAILURE
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{file}: annotation 2: {message}"
    assert len(document(tmp_path / "set")["annotations"]) == 5


def words_of(command: str, file: Path, tmp_path: Path) -> list[str]:
    """The arguments of a command that trains, measures or previews, on a COCO file."""
    images = ["--images", str(file.parent / "images")]
    if command == "train detect":
        pytest.importorskip("torch")
        sets = ["--train", str(file), "--val", str(file), "--output", str(tmp_path / "run")]
        return [*command.split(), *sets, *images]
    if command == "evaluate detect":
        pytest.importorskip("pycocotools")
        return [*command.split(), str(MODEL), "--annotations", str(file), *images]
    return [*command.split(), str(file.parent if command == "data split" else file)]


COMMANDS = ("data stats", "data split", "data preview", "train detect", "evaluate detect")


@pytest.mark.parametrize("broken", [{"category_id": 9}, {"image_id": 99}])
@pytest.mark.parametrize("command", COMMANDS)
def test_broken_annotation_is_a_one_line_error_of_a_command(
    ready: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    broken: dict[str, int],
):
    file = spoil(ready / "annotations.json", broken)
    words = words_of(command, file, tmp_path)
    capsys.readouterr()
    assert main(words) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"see edge-tools data check {file}")


@pytest.mark.parametrize("command", COMMANDS)
def test_set_without_a_picture_is_a_one_line_error_of_a_command(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
):
    file = change(
        ready / "annotations.json", lambda content: content.update(images=[], annotations=[])
    )
    words = words_of(command, file, tmp_path)
    capsys.readouterr()
    assert main(words) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "annotations.json: no picture in it" in line


def test_the_check_reports_a_set_without_a_picture(ready: Path, capsys: pytest.CaptureFixture[str]):
    change(
        ready / "annotations.json",
        lambda content: content.update(images=[], annotations=[], categories=[]),
    )
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    assert "empty: set/annotations: no picture in it" in capsys.readouterr().out
    assert main(["data", "check", str(ready), "--workers", "1", "--allow", "empty"]) == EXIT_OK


@pytest.mark.parametrize("images", [["text"], [[]], [{"id": 1}], [{"id": float("inf")}], None])
def test_malformed_images_list_is_a_one_line_error(
    ready: Path, capsys: pytest.CaptureFixture[str], images: object
):
    change(ready / "annotations.json", lambda content: content.update(images=images))
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "annotations.json: not COCO JSON" in line


def test_file_name_that_is_no_text_and_a_folder_are_named(
    ready: Path, capsys: pytest.CaptureFixture[str]
):
    change(ready / "annotations.json", lambda content: content["images"][0].update(file_name=5))
    capsys.readouterr()
    check = ["data", "check", "--workers", "1"]
    assert main([*check, str(ready)]) == EXIT_NO_INPUT
    assert "not COCO JSON (image 1: file_name 5 is no text)" in capsys.readouterr().err
    words = ["train", "detect", "--val", "none", "--images", "none", "--train", str(ready)]
    assert main([*words, "--output", str(ready / "run")]) == EXIT_NO_INPUT
    assert "annotations none: No such file" in capsys.readouterr().err
    words[3] = str(ready)
    assert main([*words, "--output", str(ready / "run")]) == EXIT_NO_INPUT
    assert f"annotations {ready}: a folder; name the JSON file in it" in capsys.readouterr().err


def as_text(content: dict[str, Any]) -> None:
    """Write all ids as text, as some tools do."""
    for item in (*content["images"], *content["categories"], *content["annotations"]):
        for key in {"id", "image_id", "category_id"} & item.keys():
            item[key] = str(item[key])


def test_ids_as_text_keep_every_object(ready: Path):
    before = folder.read(ready / "annotations.json", None)
    file = change(ready / "annotations.json", as_text)
    after = folder.read(file, None)
    assert [item["image_id"] for item in after.annotations] == [1, 2, 3, 4, 5, 6]
    assert after.pictures == before.pictures
    assert after.labels == before.labels
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_OK


def test_split_keeps_every_object_when_only_one_list_has_text_ids(ready: Path):
    def edit(content: dict[str, Any]) -> None:
        for item in content["annotations"]:
            item["image_id"] = str(item["image_id"])

    change(ready / "annotations.json", edit)
    assert main(["data", "split", str(ready), "--test", "0", "--workers", "1"]) == EXIT_OK
    assert sum(len(document(ready, side)["annotations"]) for side in ("train", "val")) == 6


@pytest.mark.parametrize(
    ("kind", "key"), [("images", "file_name"), ("categories", "name")], ids=["images", "categories"]
)
def test_duplicate_ids_are_refused(
    kind: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = labelled.coco(tmp_path, 2)
    content = json.loads(file.read_text())
    content[kind][1]["id"] = content[kind][0]["id"]
    file.write_text(json.dumps(content))
    assert main(["data", "check", str(file)]) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert content[kind][0][key] in line
    assert content[kind][1][key] in line


def test_a_picture_that_is_listed_twice_is_not_measured_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = labelled.coco(tmp_path, 2)
    content = json.loads(file.read_text())
    content["images"].append(content["images"][0])
    file.write_text(json.dumps(content))
    assert main(["data", "check", str(file), "--workers", "1"]) == EXIT_FAILURE
    assert "shows the same as" in capsys.readouterr().out
    assert main(["data", "stats", str(file)]) == EXIT_NO_INPUT
    assert "a picture is listed twice; see edge-tools data check" in capsys.readouterr().err


def test_two_categories_of_one_name_are_one_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = labelled.coco(tmp_path, 4)
    content = json.loads(file.read_text())
    content["categories"] = [{"id": number, "name": "cat"} for number in (1, 2, 3)]
    file.write_text(json.dumps(content))
    data = dataset.read(file, tmp_path / "images")
    assert data.labels == {1: "cat"}
    assert [item["category_id"] for item in data.annotations] == [1] * 4
    assert main(["data", "check", str(file), "--workers", "1"]) == EXIT_OK
    assert "empty-class:" not in capsys.readouterr().out
    figures = tmp_path / "figures.json"
    assert main(["data", "stats", str(file), "--json", str(figures)]) == EXIT_OK
    (found,) = json.loads(figures.read_text()).values()
    assert found["classes"]["cat"]["objects"] == 4
