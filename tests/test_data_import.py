"""`edge-tools data import` as a user sees it: one line per fault, progress, resuming."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import labelled
from disk import full_disk
from edge.errors import EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, EdgeError
from labelled import document, imported
from tools.cli import main
from tools.data.convert import Converted, NoRoomError, Task, convert
from tools.data.journal import Journal

pytest.importorskip("imagehash")
pytest.importorskip("defusedxml")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("coco", "edge-tools: annotations"),
        ("voc", "no such folder"),
        ("yolo", "no such folder"),
        ("folders", "no such folder"),
    ],
)
def test_a_missing_source_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, message: str
):
    assert imported(tmp_path / "nowhere", kind, tmp_path / "set") == EXIT_NO_INPUT
    assert message in capsys.readouterr().err


def test_decoders_print_nothing_about_a_broken_picture(tmp_path: Path):
    source = labelled.folders(tmp_path / "source", 2)
    whole = source / "cat" / "0.png"
    whole.write_bytes(whole.read_bytes()[:300])
    words = [str(source), "--format", "folders", "--output", str(tmp_path / "set")]
    done = subprocess.run(
        [sys.executable, "-m", "tools", "data", "import", *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == EXIT_FAILURE
    (line,) = done.stderr.splitlines()
    assert line == f"{whole}: cannot be read as a picture; repair or remove it"


def test_picture_with_the_suffix_of_no_format_can_be_kept_but_not_scaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = labelled.coco(tmp_path / "source", 2)
    odd = tmp_path / "source" / "images" / "000.jfif"
    odd.with_suffix(".jpg").rename(odd)
    file.write_text(file.read_text().replace("000.jpg", odd.name))
    assert imported(file, "coco", tmp_path / "whole") == EXIT_OK
    assert imported(file, "coco", tmp_path / "small", "--max-side", "48") == EXIT_FAILURE
    assert f"{odd}: cannot be scaled, as '.jfif' names no format" in capsys.readouterr().err


def test_a_link_to_itself_is_a_broken_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = labelled.folders(tmp_path / "source", 2)
    (source / "cat" / "0.png").unlink()
    (source / "cat" / "0.png").symlink_to("0.png")
    assert imported(source, "folders", tmp_path / "set") == EXIT_FAILURE
    assert "0.png: Too many levels of symbolic links" in capsys.readouterr().err
    whole = next((tmp_path / "set" / "images").rglob("*.png"))
    whole.unlink()
    whole.symlink_to(whole.name)
    assert main(["data", "check", str(tmp_path / "set"), "--workers", "1"]) == EXIT_FAILURE
    assert "broken: " in capsys.readouterr().out


def test_long_list_of_problems_is_in_a_file_until_all_are_fixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = labelled.coco(tmp_path / "source", 21)
    whole = json.loads(file.read_text())
    broken = whole | {"annotations": [item | {"bbox": None} for item in whole["annotations"]]}
    file.write_text(json.dumps(broken))
    problems = tmp_path / "set" / "problems.txt"
    assert imported(file, "coco", tmp_path / "set") == EXIT_FAILURE
    captured = capsys.readouterr()
    lines = [f"{file}: annotation {number}: has no 'bbox'" for number in range(21)]
    assert captured.err.splitlines() == [*lines[:20], f"… and 1 more, see {problems}"]
    assert captured.out == f"{tmp_path / 'set'}: 21 pictures, 0 objects, 2 classes; 21 problems\n"
    assert problems.read_text().splitlines() == lines

    file.write_text(json.dumps(broken | {"annotations": broken["annotations"][:20]}))
    assert imported(file, "coco", tmp_path / "set") == EXIT_FAILURE
    assert "more, see" not in capsys.readouterr().err

    file.write_text(json.dumps(whole))
    assert imported(file, "coco", tmp_path / "set") == EXIT_OK
    assert not problems.exists()


def test_of_two_pictures_with_one_name_the_first_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = labelled.coco(tmp_path / "source", 3)
    content = json.loads(file.read_text())
    content["images"].insert(0, content["images"].pop(1))
    content["images"].insert(1, content["images"][0] | {"id": 9})
    file.write_text(json.dumps(content))
    assert imported(file, "coco", tmp_path / "set") == EXIT_FAILURE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("001.jpg: the name 001.jpg is listed twice")
    images = document(tmp_path / "set")["images"]
    assert [image["file_name"] for image in images] == ["000.jpg", "001.jpg", "002.jpg"]


def test_an_import_of_nothing_writes_no_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = labelled.coco(tmp_path / "source", 2)
    shutil.rmtree(tmp_path / "source" / "images")
    assert imported(file, "coco", tmp_path / "set") == EXIT_NO_INPUT
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        "no picture could be imported; name the folder of its pictures with --images"
    )
    assert not (tmp_path / "set" / "annotations.json").exists()


def test_picture_in_place_of_coco_is_a_short_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture = labelled.folders(tmp_path / "source", 1) / "cat" / "0.png"
    assert imported(picture, "coco", tmp_path / "set") == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "0.png: not COCO JSON (" in line
    assert len(line) < len(str(picture)) + 200


def test_classes_are_renamed_and_may_be_merged(tmp_path: Path):
    source = labelled.voc(tmp_path / "source", 4)
    assert imported(source, "voc", tmp_path / "a", "--rename", "dog=wolf") == EXIT_OK
    assert [item["name"] for item in document(tmp_path / "a")["categories"]] == ["cat", "wolf"]
    assert (
        imported(source, "voc", tmp_path / "b", "--rename", "dog=pet", "--rename", "cat=pet") == 0
    )
    made = document(tmp_path / "b")
    assert made["categories"] == [{"id": 1, "name": "pet"}]
    assert [item["category_id"] for item in made["annotations"]] == [1, 1, 1, 1]


def test_merged_class_is_exhaustive_only_where_all_its_parts_were(tmp_path: Path):
    file = labelled.coco(tmp_path / "source", 3)
    content = json.loads(file.read_text())
    content["categories"].append({"id": 3, "name": "puppy"})
    for image, known in zip(content["images"], (["cat", "dog"], ["dog", "puppy"]), strict=False):
        image["exhaustive_classes"] = known
    file.write_text(json.dumps(content))
    assert imported(file, "coco", tmp_path / "set", "--rename", "puppy=dog") == EXIT_OK
    made = [image.get("exhaustive_classes") for image in document(tmp_path / "set")["images"]]
    assert made == [["cat"], ["dog"], None]


def test_class_that_cannot_be_renamed_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = labelled.voc(tmp_path / "source", 2)
    assert imported(source, "voc", tmp_path / "set", "--rename", "horse=pony") == EXIT_NO_INPUT
    assert "the classes are cat, dog" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        imported(source, "voc", tmp_path / "set", "--rename", "dog")
    assert "give two names" in capsys.readouterr().err.splitlines()[-1]


def test_import_resumes_where_it_stopped(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    file = labelled.coco(tmp_path / "source", 6)
    assert imported(file, "coco", tmp_path / "set", "--max-side", "48") == EXIT_OK
    whole = document(tmp_path / "set")
    images, journal = tmp_path / "set" / "images", tmp_path / "set" / "import.jsonl"
    kept = journal.read_text().splitlines()[:3]
    journal.write_text("\n".join(kept) + '\n{"key": "torn')  # as kill -9 leaves it
    (images / "005.jpg").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    capfd.readouterr()
    assert imported(file, "coco", tmp_path / "set", "--max-side", "48") == EXIT_OK
    assert "3 pictures are done, 3 to do" in capfd.readouterr().err
    assert document(tmp_path / "set") == whole
    after = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    assert sum(before[name] == after[name] for name in before) == 3


def sizes_on_disk(output: Path) -> set[tuple[int, ...]]:
    paths = (output / "images").rglob("*.jpg")
    return {cv2.imread(str(path)).shape[1::-1] for path in paths}


def test_leftovers_of_a_killed_worker_are_removed(tmp_path: Path):
    source = labelled.coco(tmp_path / "source", 3)
    images = tmp_path / "set" / "images"
    images.mkdir(parents=True)
    (images / ".123-000.jpg").write_bytes(b"half a pict")
    (images / ".hidden-000.jpg").write_bytes(b"somebody's own")
    (images / ".123-999.jpg").write_bytes(b"of no picture in this set")
    assert imported(source, "coco", tmp_path / "set") == EXIT_OK
    assert {path.name for path in images.iterdir()} == {
        ".hidden-000.jpg",
        ".123-999.jpg",
        "000.jpg",
        "001.jpg",
        "002.jpg",
    }


def test_pictures_shrunk_by_another_import_are_converted_again(tmp_path: Path):
    source = labelled.yolo(tmp_path / "source", 3)
    output = tmp_path / "set"
    for more in ((), ("--max-side", "48"), ()):
        assert imported(source, "yolo", output, *more) == EXIT_OK
        recorded = {(item["width"], item["height"]) for item in document(output)["images"]}
        assert sizes_on_disk(output) == recorded == {(48, 32) if more else labelled.SIZE}


def test_pictures_of_another_source_with_the_same_names_are_converted_again(tmp_path: Path):
    one = labelled.coco(tmp_path / "one", 2)
    other = labelled.coco(tmp_path / "other", 2)
    labelled.save(tmp_path / "other" / "images" / "000.jpg", 7)
    first, second = (file.parent / "images" / "000.jpg" for file in (one, other))
    made = tmp_path / "set" / "images" / "000.jpg"
    for file, picture in ((one, first), (other, second), (one, first)):
        assert imported(file, "coco", tmp_path / "set") == EXIT_OK
        assert made.read_bytes() == picture.read_bytes()


def test_picture_overwritten_by_a_killed_import_is_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = labelled.yolo(tmp_path / "source", 1)
    output = tmp_path / "set"
    assert imported(source, "yolo", output) == EXIT_OK

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", killed)
        with pytest.raises(Killed):
            imported(source, "yolo", output, "--max-side", "48")
    assert sizes_on_disk(output) == {(48, 32)}
    assert imported(source, "yolo", output) == EXIT_OK
    assert sizes_on_disk(output) == {labelled.SIZE}


def test_torn_journal_line_does_not_spoil_later_lines(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    source = labelled.yolo(tmp_path / "source", 1)
    journal = tmp_path / "set" / "import.jsonl"
    journal.parent.mkdir()
    journal.write_text('{"key": "torn')
    for _ in range(2):
        assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    assert "1 pictures are done, 0 to do" in capfd.readouterr().err


def test_changed_picture_or_setting_is_converted_again(tmp_path: Path) -> None:
    source = labelled.save(tmp_path / "a.jpg", 1)
    task = Task(source, tmp_path / "set" / "images" / "a.jpg", None, is_copied=False)
    journal = Journal(tmp_path / "set")
    journal.add(task, convert(task))
    assert journal.find(task) is not None
    assert journal.find(replace(task, is_copied=True)) is None
    assert journal.find(replace(task, max_side_px=48)) is None
    os.utime(source, (1, 1))  # another picture of the same size
    assert journal.find(task) is None


def test_journal_entries_are_on_disk_at_once(tmp_path: Path):
    source = labelled.save(tmp_path / "0.png", 0)
    target = labelled.save(tmp_path / "set" / "images" / "0.png", 0)
    task, done = Task(source, target, None, is_copied=True), Converted((96, 64), (192, 128))
    journal = Journal(tmp_path / "set")
    assert journal.find(task) is None
    journal.add(task, done)
    assert journal.find(task) == Journal(tmp_path / "set").find(task) == done
    journal.forget([task])
    assert journal.find(task) is Journal(tmp_path / "set").find(task) is None


def test_picture_removed_from_the_set_is_converted_again(tmp_path: Path):
    source = labelled.yolo(tmp_path / "source", 2)
    assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    picture = tmp_path / "set" / "images" / "train" / "0.jpg"
    picture.unlink()
    assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    assert picture.is_file()


def test_import_tells_that_it_replaces_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = labelled.yolo(tmp_path / "own", 2)
    for _ in range(2):
        assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
        assert "replaces" not in capsys.readouterr().err
    file = labelled.coco(tmp_path / "more", 2)
    assert imported(file, "coco", tmp_path / "set") == EXIT_OK
    assert f"replaces the import of {source}; sets are not merged" in capsys.readouterr().err


def test_import_warns_that_the_splits_are_outdated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    file = labelled.coco(tmp_path / "source", 6)
    output = tmp_path / "my set"
    split = ["data", "split", str(output), "--workers", "1"]
    check = ["data", "check", str(output), "--workers", "1"]
    imported(file, "coco", output)
    main(split)
    capfd.readouterr()
    assert imported(file, "coco", output) == EXIT_OK
    assert main(check) == EXIT_OK
    assert "data split" not in capfd.readouterr().err  # nothing has changed
    assert imported(file, "coco", output, "--max-side", "48") == EXIT_OK
    message = f"are of the import before; run edge-tools data split '{output}'"
    assert f"{output}: train.json, val.json, test.json {message}" in capfd.readouterr().err
    main(check)
    message = f"differ from annotations.json; run edge-tools data split '{output}'"
    assert f"{output}: train.json, val.json, test.json {message}" in capfd.readouterr().err
    main(split)
    assert main(check) == EXIT_OK
    assert "data split" not in capfd.readouterr().err


def test_truncated_split_file_does_not_stop_an_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = labelled.coco(tmp_path / "source", 2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "val.json").write_text("{")
    assert imported(file, "coco", tmp_path / "set") == EXIT_OK
    assert "val.json are of the import before" in capsys.readouterr().err


def test_progress_is_shown_in_a_terminal_only(tmp_path: Path):
    pytest.importorskip("rich")
    source = labelled.folders(tmp_path / "source", 3)
    words = ["data", "import", str(source), "--format", "folders", "--workers", "1", "--output"]
    command = [sys.executable, "-m", "tools", *words]
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    seen = [*command, str(tmp_path / "a")]
    subprocess.run(
        seen, stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True, timeout=60
    )
    os.close(theirs)
    terminal = os.read(ours, 1_000_000).decode()
    os.close(ours)
    assert re.search(r"import .*100%", terminal)
    unseen = [*command, str(tmp_path / "b")]
    hidden = subprocess.run(unseen, capture_output=True, env=environment, check=True, timeout=60)
    assert hidden.stderr == b""


def test_only_a_full_disk_is_blamed_on_the_disk(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    cv2.imwrite(str(source), np.zeros((200, 200, 3), np.uint8))
    long = Task(source, tmp_path / "out" / ("n" * 251 + ".jpg"), None, is_copied=True)
    with pytest.raises(EdgeError, match=r"File name too long; check the place and the name$"):
        convert(long)
    copied = Task(source, tmp_path / "out/b.jpg", None, is_copied=True)
    with full_disk(64), pytest.raises(NoRoomError, match=r"too large; make room and start again$"):
        convert(copied)
