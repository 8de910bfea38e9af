"""`edge-tools data`: four formats in, one format out; every fault named, no finished work lost."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

import labelled
from edge.errors import EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK
from labelled import document, imported
from tools import contact_sheet, dataset
from tools.cli import main
from tools.contact_sheet import PALETTE, Tile, TileBox
from tools.data import folder, preview, stats

pytest.importorskip("imagehash")
pytest.importorskip("defusedxml")

MAKERS = {
    "coco": labelled.coco,
    "voc": labelled.voc,
    "yolo": labelled.yolo,
    "folders": labelled.folders,
}


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo"])
def test_every_format_gives_the_same_boxes(tmp_path: Path, kind: str):
    source = MAKERS[kind](tmp_path / "source", 4)
    assert imported(source, kind, tmp_path / "set") == EXIT_OK
    data = folder.read(tmp_path / "set" / "annotations.json", None)
    assert [data.labels[item["category_id"]] for item in data.annotations] == ["cat", "dog"] * 2
    for item in data.annotations:
        assert item["bbox"] == pytest.approx(labelled.BOX, abs=0.02)
        assert item["iscrowd"] == 0
    assert document(tmp_path / "set")["info"]["task"] == "detection"
    for one in data.pictures:
        assert dataset.load(one).shape[:2] == (one.height, one.width)


def test_class_folders_label_whole_pictures(tmp_path: Path):
    source = labelled.folders(tmp_path / "source", 4)
    assert imported(source, "folders", tmp_path / "set") == EXIT_OK
    found = document(tmp_path / "set")
    assert found["info"]["task"] == "classification"
    assert {image["file_name"] for image in found["images"]} >= {"cat/0.png", "dog/1.png"}
    assert {tuple(item["bbox"]) for item in found["annotations"]} == {(0, 0, *labelled.SIZE)}


def test_boxes_shrink_with_the_picture(tmp_path: Path):
    source = labelled.coco(tmp_path / "source", 2)
    assert imported(source, "coco", tmp_path / "set", "--max-side", "48") == EXIT_OK
    found = document(tmp_path / "set")
    assert {(image["width"], image["height"]) for image in found["images"]} == {(48, 32)}
    assert found["annotations"][0]["bbox"] == [10, 5, 15, 20]
    assert cv2.imread(str(tmp_path / "set" / "images" / "000.jpg")).shape == (32, 48, 3)


def test_unknown_classes_crowds_and_ignored_places_are_kept(tmp_path: Path):
    file = labelled.coco(tmp_path / "source", 2)
    content = json.loads(file.read_text())
    content["images"][0] |= {"exhaustive_classes": ["cat"], "ignore_regions": [[0, 0, 8, 8]]}
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    assert imported(file, "coco", tmp_path / "set", "--max-side", "48") == EXIT_OK
    found = document(tmp_path / "set")
    assert found["images"][0]["exhaustive_classes"] == ["cat"]
    assert found["images"][0]["ignore_regions"] == [[0, 0, 4, 4]]
    assert "exhaustive_classes" not in found["images"][1]
    assert found["annotations"][0]["iscrowd"] == 1


def _difficult(root: Path) -> None:
    text = labelled.voc_xml("0.jpg", "cat", difficult=1)
    (root / "Annotations" / "0.xml").write_text(text)


def test_difficult_objects_become_ignored_places(tmp_path: Path):
    source = labelled.voc(tmp_path / "source", 2)
    _difficult(source)
    assert imported(source, "voc", tmp_path / "set") == EXIT_OK
    found = document(tmp_path / "set")
    assert found["images"][0]["ignore_regions"] == [list(map(float, labelled.BOX))]
    assert len(found["annotations"]) == 1


def _change(key: str, value: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        file = root / "instances.json"
        content = json.loads(file.read_text())
        content["annotations"][0][key] = value
        file.write_text(json.dumps(content))

    return change


def _outside_name(root: Path) -> None:
    file = root / "instances.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "../escaped.jpg"
    labelled.save(root / "escaped.jpg", 0)
    file.write_text(json.dumps(content))


def _cut(path: str, share: float = 0.6) -> Callable[[Path], None]:
    def cut(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * share)])

    return cut


def _text(path: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / path).write_text(text) and None


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("coco", _cut("images/000.jpg"), r"000\.jpg: the end of the JPEG is missing"),
        ("coco", _cut("images/000.jpg", 0), r"000\.jpg: cannot be read as a picture"),
        ("coco", lambda root: (root / "images/000.jpg").unlink(), r"000\.jpg: No such file"),
        ("coco", _change("bbox", [float("nan"), 0, 1, 1]), r"annotation 0: nan is not a finite"),
        ("coco", _change("bbox", [200, 0, 5, 5]), r"000\.jpg: cat box .* is outside the picture"),
        ("coco", _change("bbox", [2, 2, 0, 5]), r"000\.jpg: cat box .* is empty; left out"),
        ("coco", _change("bbox", [80, 0, 40, 5]), r"000\.jpg: cat box .* sticks out"),
        ("coco", _change("bbox", "wide"), r"annotation 0: box 'wide' is not x, y, width"),
        ("coco", _change("category_id", 9), r"annotation 0: category id 9 is not among"),
        ("coco", _change("image_id", 99), r"1 boxes of image id 99"),
        ("coco", _outside_name, r"leads out of"),
        ("voc", _text("Annotations/0.xml", "<annotation><obj"), r"0\.xml: not XML"),
        ("voc", _text("Annotations/0.xml", BOMB), r"0\.xml: not XML \(Entities"),
        ("voc", lambda root: (root / "Annotations/0.xml").unlink(), r"0\.jpg: no XML file for it"),
        ("voc", lambda root: (root / "JPEGImages/0.jpg").unlink(), r"0\.xml: its picture 0\.jpg"),
        ("yolo", lambda root: (root / "labels/train/0.txt").unlink(), r"0\.jpg: no label file"),
        ("yolo", _text("labels/train/0.txt", "7 .5 .5 .1 .1"), r"0\.txt:1: class '7'; there are"),
        ("yolo", _text("labels/train/0.txt", "0 .5 nan .1 .1"), r"0\.txt:1: 'nan' is not a finite"),
        ("yolo", _text("labels/train/0.txt", "0 .5 .5"), r"0\.txt:1: 3 fields"),
        ("folders", _cut("cat/0.png"), r"0\.png: cannot be read as a picture"),
    ],
)
def test_faults_are_one_line_each_and_the_rest_is_imported(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    spoil: Callable[[Path], None],
    message: str,
):
    source = MAKERS[kind](tmp_path / "source", 4)
    spoil(tmp_path / "source")
    assert imported(source, kind, tmp_path / "set") == EXIT_FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "source" in line]
    assert len([line for line in lines if re.search(message, line)]) == 1, lines
    assert 3 <= len(document(tmp_path / "set")["images"]) <= 4
    assert not (tmp_path / "set" / "escaped.jpg").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("source/cat/0.png/x/y.jpg", "Not a directory"), ("sheet.xyz", "unknown format")],
)
def test_unwritable_output_is_a_one_line_error(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
):
    labelled.folders(tmp_path / "source", 1)
    words = ["data", "preview", str(ready), "--output", str(tmp_path / name)]
    assert main(words) == EXIT_FAILURE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edge-tools: ")
    assert message in line


def test_stats_count_and_draw(ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    words = ["--plot", str(tmp_path / "s.png"), "--json", str(tmp_path / "s.json")]
    assert main(["data", "stats", str(ready), *words]) == EXIT_OK
    (found,) = json.loads((tmp_path / "s.json").read_text()).values()
    cat = found["classes"]["cat"]
    assert (cat["objects"], cat["medium"], cat["median_side_px"]) == (10, 10, 34.6)
    assert cat["median_aspect"] == 0.75
    assert "cat" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "s.png")).std() > 10


def test_bars_of_sets_with_other_classes_stand_beside_their_own_names():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    plot = figure.subplots()
    sets = [{"a": {"objects": 1}, "c": {"objects": 3}}, {"b": {"objects": 2}, "c": {"pictures": 1}}]
    drawn = stats.draw_bars(plot, sets)
    names = [text.get_text() for text in plot.get_yticklabels()]
    counts = [dict(zip(names, (bar.get_width() for bar in bars), strict=True)) for bars in drawn]
    assert counts == [{"a": 1, "c": 3, "b": 0}, {"a": 0, "c": 0, "b": 2}]
    tops = [[bar.get_y() for bar in bars] for bars in drawn]
    assert all(low < high for one in zip(*tops, strict=True) for low, high in [one])
    bottom = [bar.get_y() + bar.get_height() for bar in drawn[1]]
    middles = [(top + end) / 2 for top, end in zip(tops[0], bottom, strict=True)]
    assert list(plot.get_yticks()) == pytest.approx(middles)


def test_preview_draws_boxes_of_the_chosen_class(
    ready: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    sheet = tmp_path / "sheet.jpg"
    words = ["data", "preview", str(ready), "--output", str(sheet), "--count", "4"]
    assert main([*words, "--classes", "dog"]) == EXIT_OK
    assert cv2.imread(str(sheet)).shape[1] == 4 * 240
    assert main([*words, "--columns", "2"]) == EXIT_OK
    assert cv2.imread(str(sheet)).shape[1] == 2 * 240
    tiles: list[Tile] = []
    monkeypatch.setattr(contact_sheet, "write", lambda made, *_, **__: tiles.extend(made))
    assert main([*words, "--classes", "dog"]) == EXIT_OK
    box = TileBox(*labelled.BOX, "dog", PALETTE[1])
    assert [tile.boxes for tile in tiles] == [(box,)] * 4
    assert main([*words, "--classes", "horse"]) == EXIT_NO_INPUT
    assert "no class horse in set/annotations; it has cat, dog" in capsys.readouterr().err


def test_preview_chooses_other_pictures_with_another_seed(ready: Path):
    data = folder.read(ready / "annotations.json", None)

    def names(count: int, seed: int) -> list[str]:
        return [picture.path.name for picture, _ in preview.choose(data, count, None, seed)]

    assert names(5, 0) == names(5, 0) != names(5, 1)
    assert len(set(names(5, 0))) == 5
    assert len(set(names(99, 0))) == 20
    for picture, objects in preview.choose(data, 20, ["dog"], 0):
        found = [(item["image_id"], data.labels[item["category_id"]]) for item in objects]
        assert found == [(picture.image_id, "dog")]


def test_preview_shows_the_rest_beside_a_broken_picture(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (ready / "images" / "003.jpg").write_bytes(b"")
    words = ["data", "preview", str(ready), "--output", str(tmp_path / "sheet.jpg")]
    assert main([*words, "--count", "20"]) == EXIT_FAILURE
    told = capsys.readouterr()
    assert told.out.endswith("sheet.jpg: 19 pictures\n")
    assert "003.jpg" in told.err
    for path in (ready / "images").iterdir():
        path.write_bytes(b"")
    assert main(words) == EXIT_NO_INPUT
    assert "no picture to show" in capsys.readouterr().err


@pytest.mark.parametrize("count", [4, 18, 99])
def test_preview_has_as_many_pictures_as_asked_for(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
):
    assert main(["data", "split", str(ready), "--workers", "1"]) == EXIT_OK
    words = ["data", "preview", str(ready), "--output", str(tmp_path / "a.jpg")]
    assert main([*words, "--count", str(count)]) == EXIT_OK
    shown = min(count, len(document(ready)["images"]))
    assert f"a.jpg: {shown} pictures" in capsys.readouterr().out


def test_names_with_invalid_utf8_or_markup_work_in_every_command(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
):
    file = labelled.coco(tmp_path / "source", 2)
    odd, empty = b"\xff.jpg", b"\xfe.jpg"
    (tmp_path / "source" / "images" / "001.jpg").rename(
        tmp_path / "source" / "images" / os.fsdecode(odd)
    )
    (tmp_path / "source" / "images" / os.fsdecode(empty)).touch()
    content = json.loads(file.read_text())
    content["images"][1]["file_name"] = os.fsdecode(odd)
    content["images"].append(content["images"][1] | {"id": 2, "file_name": os.fsdecode(empty)})
    content["categories"][0]["name"] = "[/red] :cat:"
    content["categories"][1]["name"] = "$_$"
    file.write_text(json.dumps(content))
    place = [str(file), "--images", str(tmp_path / "source" / "images")]

    assert main(["data", "check", *place, "--workers", "1"]) == EXIT_FAILURE
    assert rb"\udcfe.jpg: cannot be read" in capsysbinary.readouterr().out
    plot = ["--plot", str(tmp_path / "stats.png")]
    assert main(["data", "stats", *place, *plot]) == EXIT_OK
    shown = capsysbinary.readouterr().out
    assert b"[/red] :cat:" in shown
    assert "┃ source".encode() not in shown  # none is named
    sheet = ["--output", str(tmp_path / "sheet.jpg")]
    content["images"].pop()
    file.write_text(json.dumps(content))
    assert main(["data", "preview", *place, *sheet]) == EXIT_OK
    assert capsysbinary.readouterr().out.endswith(b"sheet.jpg: 2 pictures\n")
