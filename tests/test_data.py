"""`edge-tools data`: four formats in, one form out; every fault named, nothing done lost."""

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
from tools import dataset
from tools.cli import main
from tools.data import check, fingerprint, folder, stats

pytest.importorskip("imagehash")
pytest.importorskip("defusedxml")

MAKERS = {
    "coco": labelled.coco,
    "voc": labelled.voc,
    "yolo": labelled.yolo,
    "folders": labelled.folders,
}


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """An imported set of 20 pictures."""
    imported(labelled.coco(tmp_path / "source", 20), "coco", tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo"])
def test_every_format_gives_the_same_boxes(tmp_path: Path, kind: str):
    source = MAKERS[kind](tmp_path / "source", 4)
    assert imported(source, kind, tmp_path / "set") == EXIT_OK
    data = folder.read(tmp_path / "set" / "annotations.json", None)
    assert [data.labels[item["category_id"]] for item in data.annotations] == ["cat", "dog"] * 2
    for item in data.annotations:
        assert item["bbox"] == pytest.approx(labelled.BOX, abs=0.02)
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


def test_difficult_objects_are_places_to_ignore(tmp_path: Path):
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
    ("kind", "spoil", "told"),
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
def test_what_is_wrong_is_one_line_and_the_rest_is_imported(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    spoil: Callable[[Path], None],
    told: str,
):
    source = MAKERS[kind](tmp_path / "source", 4)
    spoil(tmp_path / "source")
    assert imported(source, kind, tmp_path / "set") == EXIT_FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "source" in line]
    assert len([line for line in lines if re.search(told, line)]) == 1, lines
    assert 3 <= len(document(tmp_path / "set")["images"]) <= 4
    assert not (tmp_path / "set" / "escaped.jpg").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [("source/cat/0.png/x/y.jpg", "Not a directory"), ("sheet.xyz", "no format of pictures")],
)
def test_a_place_that_cannot_be_written_is_one_line(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
):
    labelled.folders(tmp_path / "source", 1)
    words = ["data", "preview", str(ready), "--output", str(tmp_path / name)]
    assert main(words) == EXIT_FAILURE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edge-tools: ")
    assert told in line


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
    assert main([*words, "--allow", *kinds]) == EXIT_OK


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
    told = "0 empty, 0 broken, 0 size, 21 box, 1 empty-class, 0 duplicate, 0 leak"
    assert lines[-1] == f"22 pictures: {told}"
    content["annotations"][20]["bbox"] = list(labelled.BOX)
    file.write_text(json.dumps(content))
    main(["data", "check", str(file), "--workers", "1"])
    assert "more; --report" not in capsys.readouterr().out


def test_the_same_picture_on_both_sides_is_a_leak(ready: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "split", str(ready), "--workers", "1"]) == EXIT_OK
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_OK
    train, val = document(ready, "train"), document(ready, "val")
    val["images"].append(train["images"][0] | {"id": 999})
    folder.write(ready / "val.json", val)
    capsys.readouterr()
    assert main(["data", "check", str(ready), "--workers", "1"]) == EXIT_FAILURE
    assert "(set/train and set/val)" in capsys.readouterr().out


def sides_of(data: Path) -> dict[str, str]:
    return {
        image["file_name"]: side
        for side in ("train", "val", "test")
        if (data / f"{side}.json").exists()
        for image in document(data, side)["images"]
    }


def test_a_split_holds_every_picture_once_and_classes_by_their_share(ready: Path):
    main(["data", "split", str(ready), "--val", "0.2", "--test", "0.2", "--workers", "1"])
    sides = sides_of(ready)
    assert len(sides) == 20
    assert sum(len(document(ready, side)["images"]) for side in ("train", "val", "test")) == 20
    for side, count in (("train", 6), ("val", 2), ("test", 2)):
        labels = [item["category_id"] for item in document(ready, side)["annotations"]]
        assert [labels.count(1), labels.count(2)] == [count, count]


def test_a_split_depends_on_content_not_on_names(ready: Path):
    main(["data", "split", str(ready), "--workers", "1"])
    first = sides_of(ready)
    content = document(ready)
    for image in content["images"]:
        old = image["file_name"]
        image["file_name"] = f"renamed-{99 - int(old[:3])}.jpg"
        (ready / "images" / old).rename(ready / "images" / image["file_name"])
    folder.write(ready / "annotations.json", content)
    for side in ("train", "val", "test"):
        (ready / f"{side}.json").unlink()
    main(["data", "split", str(ready), "--workers", "1"])
    assert sides_of(ready) == {f"renamed-{99 - int(n[:3])}.jpg": s for n, s in first.items()}


def test_pictures_stay_on_their_side_when_the_set_grows(tmp_path: Path):
    output = tmp_path / "set"
    for count in (20, 40):
        imported(labelled.coco(tmp_path / "source", count), "coco", output)
        main(["data", "split", str(output), "--workers", "1"])
        if count == 20:
            first = sides_of(output)
    grown = sides_of(output)
    assert len(grown) == 40
    assert {name: grown[name] for name in first} == first


def test_pictures_that_show_the_same_stay_together(tmp_path: Path):
    source = tmp_path / "source"
    file = labelled.coco(source, 30)
    for number in range(15):  # each second half a recompressed copy of the first
        bgr = cv2.imread(str(source / "images" / f"{number:03}.jpg"))
        cv2.imwrite(
            str(source / "images" / f"{number + 15:03}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 70]
        )
    imported(file, "coco", tmp_path / "set")
    main(["data", "split", str(tmp_path / "set"), "--val", "0.3", "--workers", "1"])
    sides = sides_of(tmp_path / "set")
    assert set(sides.values()) == {"train", "val", "test"}
    assert all(sides[f"{n:03}.jpg"] == sides[f"{n + 15:03}.jpg"] for n in range(15))


def test_class_folders_come_out_as_class_folders(tmp_path: Path):
    imported(labelled.folders(tmp_path / "source", 20), "folders", tmp_path / "set")
    assert main(["data", "split", str(tmp_path / "set"), "--workers", "1"]) == EXIT_OK
    found = {
        p.relative_to(tmp_path / "set" / "folders").parts
        for p in (tmp_path / "set" / "folders").rglob("*.png")
    }
    assert len(found) == 20
    assert {parts[:2] for parts in found} == {
        (s, c) for s in ("train", "val", "test") for c in ("cat", "dog")
    }


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


def test_preview_draws_boxes_of_the_chosen_class(ready: Path, tmp_path: Path):
    sheet = tmp_path / "sheet.jpg"
    words = ["data", "preview", str(ready), "--output", str(sheet), "--count", "4"]
    assert main([*words, "--classes", "dog"]) == EXIT_OK
    assert cv2.imread(str(sheet)).shape[1] == 4 * 240
    assert main([*words, "--classes", "horse"]) == EXIT_NO_INPUT


def test_recompressed_and_shrunk_pictures_are_alike_and_others_are_not(tmp_path: Path):
    prints = [fingerprint.take(labelled.save(tmp_path / f"{n}.png", n)) for n in range(40)]
    assert fingerprint.groups(prints) == [[index] for index in range(40)]
    small = cv2.resize(labelled.picture(0), (72, 48), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "small.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert fingerprint.alike(prints[0], fingerprint.take(tmp_path / "small.jpg"))


def test_hashes_alike_but_colors_not_are_no_twins(tmp_path: Path):
    one = labelled.picture(1)
    gray = cv2.cvtColor(one, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "one.png"), cv2.merge([gray, gray // 2, gray // 2]))
    cv2.imwrite(str(tmp_path / "other.png"), cv2.merge([gray // 2, gray // 2, gray]))
    prints = [fingerprint.take(tmp_path / name) for name in ("one.png", "other.png")]
    assert (prints[0].phash ^ prints[1].phash).bit_count() <= fingerprint.MAX_BITS
    assert not fingerprint.alike(*prints)


def test_the_check_runs_on_a_pool(ready: Path):
    sets = folder.read_all([ready], None)
    assert check.find_faults(sets, workers=2, dask=None) == []


def test_names_that_are_no_text_or_markup_go_through(
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
    said = capsysbinary.readouterr().out
    assert b"[/red] :cat:" in said
    assert "┃ source".encode() not in said  # none is named
    sheet = ["--output", str(tmp_path / "sheet.jpg")]
    content["images"].pop()
    file.write_text(json.dumps(content))
    assert main(["data", "preview", *place, *sheet]) == EXIT_OK
    assert capsysbinary.readouterr().out.endswith(b"sheet.jpg: 2 pictures\n")
