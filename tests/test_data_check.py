"""`edge-tools data check`: every kind of fault in a set is found, counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

import labelled
from edge.errors import EXIT_FAILURE, EXIT_OK
from labelled import document, imported
from tools.cli import main
from tools.data import check, folder

pytest.importorskip("imagehash")


def test_a_clean_set_passes_the_check(ready: Path):
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_OK


def test_the_check_names_every_kind_of_fault(
    ready: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    content = document(ready)
    content["categories"].append({"id": 3, "name": "bird"})
    content["images"][1]["width"] = 5
    content["annotations"][2]["bbox"] = [90, 0, 30, 10]
    (ready / "images" / "003.jpg").unlink()
    again = cv2.imread(str(ready / "images" / "004.jpg"))
    (ready / "images" / "005.jpg").unlink()
    cv2.imwrite(str(ready / "images" / "005.jpg"), again, [cv2.IMWRITE_JPEG_QUALITY, 60])
    folder.write(ready / "annotations.json", content)
    report = tmp_path / "faults.json"
    words = ["data", "check", str(ready), "--workers", "1", "--report", str(report)]
    assert main(words) == EXIT_FAILURE
    printed = capsys.readouterr().out
    for text in (
        "broken: ",
        "size: ",
        "box: set/annotations: annotation 3: 002.jpg: cat box",
        "empty-class: set/annotations: class 'bird'",
        "004.jpg shows the same as ",
    ):
        assert text in printed
    kinds = {fault["kind"] for fault in json.loads(report.read_text())}
    assert kinds == {"broken", "size", "box", "empty-class", "duplicate"}
    assert main([*words, *(word for kind in kinds for word in ("--allow", kind))]) == EXIT_OK


def test_a_fault_is_one_line_whatever_the_name_of_its_file(
    ready: Path, capsys: pytest.CaptureFixture[str]
):
    content = document(ready)
    content["images"][1]["file_name"] = "two\nlines.jpg"
    folder.write(ready / "annotations.json", content)
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    fault, _summary = capsys.readouterr().out.splitlines()
    assert fault == f"broken: {ready}/images/two lines.jpg: No such file or directory"


def test_the_check_shows_twenty_faults_of_a_kind_and_counts_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = labelled.coco(tmp_path, 22)
    content = json.loads(file.read_text())
    for item in content["annotations"][:21]:
        item["bbox"] = None
    content["categories"].append({"id": 3, "name": "bird"})
    file.write_text(json.dumps(content))
    assert main(["data", "check", str(file), "--workers", "1"]) == EXIT_FAILURE
    lines = capsys.readouterr().out.splitlines()
    kinds = [line.partition(":")[0] for line in lines]
    assert kinds == ["box"] * 21 + ["empty-class", "22 pictures"]
    assert lines[20] == "box: 1 more; --report FILE has all"
    message = "0 empty, 0 broken, 0 size, 21 box, 1 empty-class, 0 duplicate, 0 leak"
    assert lines[-1] == f"22 pictures: {message}"
    content["annotations"][20]["bbox"] = list(labelled.BOX)
    file.write_text(json.dumps(content))
    main(["data", "check", str(file), "--workers", "1"])
    assert "more; --report" not in capsys.readouterr().out


def test_same_picture_in_two_splits_is_a_leak(ready: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "split", str(ready), "--workers", "1"]) == EXIT_OK
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_OK
    train, val = document(ready, "train"), document(ready, "val")
    val["images"].append(train["images"][0] | {"id": 999})
    folder.write(ready / "val.json", val)
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    assert "(set/train and set/val)" in capsys.readouterr().out


def test_check_runs_on_a_pool(ready: Path):
    sets = folder.read_all([ready], None)
    assert check.find_faults(sets, workers=2, dask=None) == []


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_check_finds_pictures_missing_in_the_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
):
    output = tmp_path / "set"
    imported(labelled.coco(tmp_path / "source", 6), "coco", output)
    main(["data", "split", str(output), "--workers", "1"])
    content = document(output, "train")
    content[key].pop()
    folder.write(output / "train.json", content)
    capsys.readouterr()
    main(["data", "check", str(output), "--workers", "1"])
    assert "differ from annotations.json" in capsys.readouterr().err
