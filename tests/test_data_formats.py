"""What each format's reader reads, skips, and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("defusedxml")

import labelled
from edge.errors import InputError
from tools.data.entry import Labelled, Listing
from tools.data.formats import coco, folders, voc, yolo


def names(listing: Listing) -> list[str]:
    return [entry.name for entry in listing.entries]


def test_coco_classes_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    file = labelled.coco(tmp_path, 2)
    content = json.loads(file.read_text())
    content["categories"] = [
        {"id": number, "name": name} for number, name in ((9, "bird"), (2, "dog"), (1, "cat"))
    ]
    content["images"][0]["exhaustive_classes"] = ["dog", "bird", "cat"]
    file.write_text(json.dumps(content))
    listing = coco.read(file, None)
    assert listing.classes == ["cat", "dog", "bird"]
    assert listing.entries[0].exhaustive_classes == ("bird", "cat", "dog")
    assert listing.entries[0].objects == (Labelled("cat", labelled.BOX, is_crowd=False),)


@pytest.mark.parametrize("folder", ["images/", "images\\"])
def test_coco_names_may_begin_with_the_folder_beside_the_file(tmp_path: Path, folder: str) -> None:
    file = labelled.coco(tmp_path, 2)
    content = json.loads(file.read_text())
    for item in content["images"]:
        item["file_name"] = folder + item["file_name"]
    file.write_text(json.dumps(content))
    listing = coco.read(file, None)
    assert names(listing) == ["images/000.jpg", "images/001.jpg"]
    assert all(entry.path.is_file() for entry in listing.entries)


def test_coco_class_names_have_no_blanks_around(tmp_path: Path) -> None:
    file = labelled.coco(tmp_path, 1)
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 1, "name": " fork lift "}]
    file.write_text(json.dumps(content))
    assert coco.read(file, None).classes == ["fork lift"]


def test_coco_folder_of_splits_is_read_as_one_set(tmp_path: Path) -> None:
    for split, classes in (("train", ("none", "cat")), ("valid", ("none", "dog"))):
        content = json.loads(labelled.coco(tmp_path / split, 1).read_text())
        content["categories"] = [{"id": id_, "name": name} for id_, name in enumerate(classes)]
        (tmp_path / split / coco.IN_SPLIT).write_text(json.dumps(content))
        (tmp_path / split / "images" / "000.jpg").rename(tmp_path / split / "000.jpg")
    listing = coco.read(tmp_path, None)
    assert listing.classes == ["none", "cat", "dog"]
    assert names(listing) == ["train/000.jpg", "valid/000.jpg"]
    assert [entry.objects[0].label for entry in listing.entries] == ["cat", "dog"]
    assert [entry.exhaustive_classes for entry in listing.entries] == [
        ("cat", "none"),
        ("dog", "none"),
    ]
    assert all(entry.path.is_file() for entry in listing.entries)


def test_coco_folder_without_a_file_of_splits_is_refused(tmp_path: Path) -> None:
    labelled.coco(tmp_path / "train", 1)
    with pytest.raises(InputError, match="name the JSON file"):
        coco.read(tmp_path, None)
    with pytest.raises(InputError, match=r"--images .* is a folder"):
        coco.read(tmp_path, tmp_path)


def test_class_folders_are_sorted_and_other_entries_skipped(tmp_path: Path) -> None:
    source = tmp_path / "birds"
    for place in ("wren/b.png", "wren/a.png", "owl/deep/a.png", ".trash/a.png", "loose.png"):
        labelled.save(source / place, 1)
    (source / "empty").mkdir()
    (source / "owl" / "notes.txt").touch()
    listing = folders.read(source, None)
    assert listing.classes == ["empty", "owl", "wren"]
    assert names(listing) == ["owl/deep/a.png", "wren/a.png", "wren/b.png"]
    assert listing.entries[0].objects == (Labelled("owl", None),)
    assert listing.entries[0].source == "birds"
    assert listing.problems == [f"{source / 'empty'}: class without a picture"]
    assert not listing.has_boxes


@pytest.mark.parametrize(
    ("place", "message"),
    [("train/cat/a.png", "is divided already"), ("a.png", "no class folder in it")],
)
def test_folder_without_class_folders_is_refused(tmp_path: Path, place: str, message: str) -> None:
    labelled.save(tmp_path / place, 1)
    with pytest.raises(InputError, match=message):
        folders.read(tmp_path, None)


def test_picture_folder_beside_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--images: class folders hold .* leave it out"):
        folders.read(tmp_path, tmp_path)


def test_voc_without_an_xml_file_is_refused(tmp_path: Path) -> None:
    labelled.save(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match="no XML file in it; is the format voc"):
        voc.read(tmp_path, None)


@pytest.mark.parametrize("place", ["JPEGImages", "images", "Annotations", "elsewhere"])
def test_voc_pictures_are_found_in_their_folder_or_beside_the_labels(
    tmp_path: Path, place: str
) -> None:
    source = labelled.voc(tmp_path / "source", 2)
    if place == "elsewhere":
        shutil.move(source / "JPEGImages", tmp_path / place)
    elif place == "Annotations":
        for path in (source / "JPEGImages").iterdir():
            path.rename(source / place / path.name)
        (source / "JPEGImages").rmdir()
    else:
        (source / "JPEGImages").rename(source / place)
    listing = voc.read(source, tmp_path / place if place == "elsewhere" else None)
    prefix = "Annotations/" if place == "Annotations" else ""
    assert names(listing) == [f"{prefix}0.jpg", f"{prefix}1.jpg"]
    assert listing.problems == []


def test_picture_named_by_a_voc_file_precedes_one_in_its_folder(tmp_path: Path) -> None:
    source = labelled.voc(tmp_path / "source", 1)
    labelled.save(tmp_path / "better" / "0.jpg", 0)
    (entry,) = voc.read(source, tmp_path / "better").entries
    assert entry.path == tmp_path / "better" / "0.jpg"


@pytest.mark.parametrize("labels", ["{folder}", "Annotations/{folder}"], ids=["beside", "alike"])
def test_voc_pictures_of_one_name_keep_their_own_labels(tmp_path: Path, labels: str) -> None:
    root = tmp_path / "JPEGImages" if "Annotations" in labels else tmp_path
    for seed, (day, label) in enumerate((("monday", "cat"), ("tuesday", "dog"))):
        labelled.save(root / day / "1.jpg", seed)
        file = tmp_path / labels.format(folder=day) / "1.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(labelled.voc_xml("1.jpg", label))
    listing = voc.read(tmp_path, None)
    assert {entry.name: entry.objects[0].label for entry in listing.entries} == {
        "monday/1.jpg": "cat",
        "tuesday/1.jpg": "dog",
    }
    assert listing.problems == []


def test_ambiguous_voc_labels_are_skipped(tmp_path: Path) -> None:
    source = labelled.voc(tmp_path, 1)
    for day in ("monday", "tuesday"):
        labelled.save(source / "JPEGImages" / day / "0.jpg", 0)
    (source / "JPEGImages" / "0.jpg").unlink()
    listing = voc.read(source, None)
    assert listing.entries == []
    message = "2 pictures are named 0.jpg, none in this folder; move it there"
    assert listing.problems[0] == f"{source / 'Annotations' / '0.xml'}: {message}"


def test_voc_source_is_read_and_classes_are_sorted(tmp_path: Path) -> None:
    source = labelled.voc(tmp_path / "source", 2)
    (source / "Annotations" / "0.xml").write_text(labelled.voc_xml("0.jpg", "zebra"))
    bare = labelled.voc_xml("1.jpg", "dog")
    for tag in ("source", "difficult", "size"):
        head, _, rest = bare.partition(f"<{tag}>")
        bare = head + rest.partition(f"</{tag}>")[2]
    (source / "Annotations" / "1.xml").write_text(bare)
    listing = voc.read(source, None)
    assert listing.classes == ["dog", "zebra"]
    assert [(entry.source, entry.size) for entry in listing.entries] == [
        ("mine", labelled.SIZE),
        ("", None),
    ]
    assert [len(entry.objects) for entry in listing.entries] == [1, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<name>cat</name>", "", "<object> has no <name>"),
        ("<filename>0.jpg</filename>", "<filename> </filename>", "<annotation> has no <filename>"),
        ("<bndbox>", "<box>", "<object> has no <bndbox>"),
        ("<width>96</width>", "<width>wide</width>", "'wide' is not a number"),
    ],
)
def test_incomplete_voc_file_is_reported_with_its_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    source = labelled.voc(tmp_path / "source", 2)
    file = source / "Annotations" / "0.xml"
    text = file.read_text().replace(old, new)
    file.write_text(text.replace("</bndbox>", "</box>") if new == "<box>" else text)
    listing = voc.read(source, None)
    assert names(listing) == ["1.jpg"]
    assert listing.problems[0] == f"{file}: {message}"


def test_yolo_labels_are_found_in_labels_or_beside_their_picture(tmp_path: Path) -> None:
    source = labelled.yolo(tmp_path / "images" / "own", 2)
    (source / "labels" / "train" / "1.txt").rename(source / "images" / "train" / "1.txt")
    (source / "labels" / "train" / "0.txt").write_text("\n  \n")
    listing = yolo.read(source, None)
    assert names(listing) == ["train/0.jpg", "train/1.jpg"]
    assert [len(entry.objects) for entry in listing.entries] == [0, 1]
    assert {entry.source for entry in listing.entries} == {"own"}
    assert listing.problems == []
    part = yolo.read(source, source / "images" / "train")
    assert names(part) == ["0.jpg", "1.jpg"]


def test_yolo_classes_may_be_darknets(tmp_path: Path) -> None:
    labelled.save(tmp_path / "obj_train_data" / "a.png", 1)
    (tmp_path / "obj_train_data" / "a.txt").write_text("1 .5 .5 .2 .2\n")
    (tmp_path / "obj.names").write_text("cat\nbig dog\n")
    (entry,) = yolo.read(tmp_path, None).entries
    assert [item.label for item in entry.objects] == ["big dog"]
    with pytest.raises(InputError, match=r"gone: no such folder$"):
        yolo.read(tmp_path / "gone", None)


def test_blank_lines_of_classes_txt_are_skipped_and_an_empty_file_is_refused(
    tmp_path: Path,
) -> None:
    source = labelled.yolo(tmp_path, 2)
    (source / "classes.txt").write_text("cat\ndog\n\n")
    assert yolo.read(source, None).classes == ["cat", "dog"]
    (source / "classes.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"classes\.txt: no class in it; write one per line"):
        yolo.read(source, None)


def test_of_two_yaml_files_the_first_by_name_that_names_classes_is_taken(tmp_path: Path) -> None:
    source = labelled.yolo(tmp_path, 1)
    (source / "a.yaml").write_text("names: bird\n")
    (source / "b.yml").write_text("names: [bird]\n")
    assert yolo.read(source, None).classes == ["bird"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 .1 .1 .9", "6 fields; expected class x y width height"),
        ("cat .5 .5 .1 .1", "class 'cat'; there are 2 classes from 0 to 1"),
        ("-1 .5 .5 .1 .1", "class '-1'; there are 2 classes from 0 to 1"),
    ],
)
def test_invalid_yolo_line_is_reported(tmp_path: Path, line: str, message: str) -> None:
    source = labelled.yolo(tmp_path, 1)
    file = source / "labels" / "train" / "0.txt"
    file.write_text(f"{line}\n1 .5 .5 .1 .1\n")
    listing = yolo.read(source, None)
    assert listing.problems == [f"{file}:1: {message}"]
    assert [item.label for item in listing.entries[0].objects] == ["dog"]


def test_yolo_labels_folder_takes_precedence_over_a_text_file_beside_the_picture(
    tmp_path: Path,
) -> None:
    source = labelled.yolo(tmp_path / "own", 1)
    (source / "images" / "train" / "0.txt").write_text("")
    (entry,) = yolo.read(source, None).entries
    assert [item.label for item in entry.objects] == ["cat"]
