"""The split that a picture gets: shares, rare classes, earlier splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

pytest.importorskip("imagehash")

import labelled
from edge import lookup
from edge.errors import EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, EdgeError, InputError
from labelled import document, imported
from tools.cli import main
from tools.data import folder, split
from tools.data.fingerprint import Fingerprint
from tools.data.split import Group

SHARES = {"val": 0.2, "test": 0.2}


def singles(count: int, *labels: str, begin: int = 0) -> list[Group]:
    """Groups of one picture each; their names are their places in the order of hashes."""
    names = [f"{number:03}" for number in range(begin, begin + count)]
    return [Group((name,), frozenset(labels), name) for name in names]


def counted(sides: Mapping[str, str]) -> dict[str, int]:
    return dict(Counter(sides.values()))


def test_picture_with_a_rare_and_a_common_class_is_split_by_the_rare_one() -> None:
    common = singles(40, "bus")
    both = singles(10, "bus", "car", begin=40)
    sides = split.assign_splits(common + both, SHARES, {})
    rare = {group.names[0]: sides[group.names[0]] for group in both}
    assert counted(rare) == {"train": 6, "val": 2, "test": 2}


def test_split_does_not_depend_on_the_order_of_the_pictures() -> None:
    groups = singles(20, "cat")
    assert split.assign_splits(groups[::-1], SHARES, {}) == split.assign_splits(groups, SHARES, {})


@pytest.mark.parametrize(
    ("pictures", "share", "expected"),
    [
        (2, 0.2, {"train": 2}),
        (3, 0.1, {"train": 1, "val": 1, "test": 1}),  # each split has a class with three pictures
        (20, 0.2, {"train": 12, "val": 4, "test": 4}),
    ],
)
def test_each_split_gets_its_share_of_a_class(
    pictures: int, share: float, expected: dict[str, int]
) -> None:
    shares = {"val": share, "test": share}
    assert counted(split.assign_splits(singles(pictures, "cat"), shares, {})) == expected


def test_pictures_without_objects_are_shared_out_like_a_class() -> None:
    sides = split.assign_splits(singles(20, "cat") + singles(5, begin=20), SHARES, {})
    empty = {name: side for name, side in sides.items() if name >= "020"}
    assert counted(empty) == {"train": 3, "val": 1, "test": 1}


def test_split_without_a_share_gets_nothing() -> None:
    sides = split.assign_splits(singles(20, "cat"), {"val": 0.2, "test": 0.0}, {})
    assert counted(sides) == {"train": 16, "val": 4}


def test_a_set_that_grows_keeps_its_shares() -> None:
    first = split.assign_splits(singles(20, "cat"), SHARES, {})
    grown = split.assign_splits(singles(40, "cat"), SHARES, first)
    assert {name: grown[name] for name in first} == first
    assert counted(grown) == {"train": 24, "val": 8, "test": 8}


def test_split_with_more_than_its_share_gets_no_new_pictures() -> None:
    earlier = {f"{number:03}": "val" for number in range(8)}
    sides = split.assign_splits(singles(20, "cat"), SHARES, earlier)
    assert counted(sides) == {"val": 8, "test": 4, "train": 8}


def test_group_partly_in_train_goes_to_train_as_a_whole() -> None:
    group = Group(("old", "copy", "new"), frozenset({"cat"}), "0")
    assert set(split.assign_splits([group], SHARES, {"copy": "val", "old": "train"}).values()) == {
        "train"
    }
    assert set(split.assign_splits([group], SHARES, {"copy": "test"}).values()) == {"test"}


@pytest.mark.parametrize(("val", "test"), [("0.5", "0.5"), ("0.9", "0.3")])
def test_shares_without_training_data_are_refused(
    ready: Path, capsys: pytest.CaptureFixture[str], val: str, test: str
) -> None:
    assert main(["data", "split", str(ready), "--val", val, "--test", test]) == EXIT_NO_INPUT
    assert "--val and --test leave nothing to train on" in capsys.readouterr().err
    assert folder.splits_in(ready) == []


def test_a_set_with_a_broken_picture_is_not_split(
    ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ready / "images" / "003.jpg").unlink()
    assert main(["data", "split", str(ready), "--workers", "1"]) == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "003.jpg: No such file" in line
    assert line.endswith("(1 broken; see edge-tools data check)")
    assert folder.splits_in(ready) == []


def test_file_of_a_now_empty_split_is_removed(
    ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures of an earlier split stay where they are, so nothing is left for it."""
    assert main(["data", "split", str(ready), "--test", "0", "--workers", "1"]) == EXIT_OK
    assert [file.name for file in folder.splits_in(ready)] == ["train.json", "val.json"]
    assert f"{ready / 'val.json'}: 2 pictures, 2 objects" in capsys.readouterr().out
    held = {image["file_name"] for image in document(ready, "val")["images"]}
    content = document(ready)
    content["images"] = [item for item in content["images"] if item["file_name"] not in held]
    numbers = {item["id"] for item in content["images"]}
    kept = [item for item in content["annotations"] if item["image_id"] in numbers]
    folder.write(ready / "annotations.json", content | {"annotations": kept})
    words = ["data", "split", str(ready), "--val", "0", "--test", "0", "--workers", "1"]
    assert main(words) == EXIT_OK
    assert [file.name for file in folder.splits_in(ready)] == ["train.json"]
    assert len(document(ready, "train")["images"]) == 18


def test_class_folders_keep_nothing_of_an_earlier_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "set"
    imported(labelled.folders(tmp_path / "source", 8), "folders", data)
    words = ["data", "split", str(data), "--workers", "1"]
    assert main(words) == EXIT_OK
    before = sorted((data / "folders").rglob("*.png"))
    (data / "folders" / "val" / "cat" / "of-before.png").touch()
    capsys.readouterr()
    assert main(words) == EXIT_OK
    assert sorted((data / "folders").rglob("*.png")) == before
    message = f"{data / 'folders'}: test, train, val, each with one folder per class"
    assert message in capsys.readouterr().out


def test_class_folders_that_cannot_be_written_are_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "set"
    imported(labelled.folders(tmp_path / "source", 8), "folders", data)
    (data / "folders").touch()
    capsys.readouterr()
    assert main(["data", "split", str(data), "--workers", "1"]) == EXIT_FAILURE
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{data / 'folders'}: Not a directory" in line


def test_set_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"gone/train\.json: No such file or directory"):
        folder.write(tmp_path / "gone" / "train.json", {})


def test_split_is_stale_once_the_set_has_changed(ready: Path) -> None:
    assert folder.stale_splits(ready) is None  # nothing was split
    content = document(ready)
    assert main(["data", "split", str(ready), "--workers", "1"]) == EXIT_OK
    content["annotations"].append(content["annotations"][0] | {"id": 99, "image_id": 99})
    folder.write(ready / "annotations.json", content)  # without a picture: in no split
    assert folder.stale_splits(ready) is None
    content["categories"].reverse()
    content["annotations"][0] = dict(reversed(content["annotations"][0].items()))
    folder.write(ready / "annotations.json", content)
    assert folder.stale_splits(ready) is None
    content["annotations"][0]["bbox"] = [1, 2, 3, 4]
    folder.write(ready / "annotations.json", content)
    assert folder.stale_splits(ready) == "train.json, val.json, test.json"
    (ready / "annotations.json").unlink()
    assert folder.stale_splits(ready) is None


def test_files_are_the_splits_or_else_the_whole_set(ready: Path) -> None:
    whole = ready / "annotations.json"
    assert folder.files([ready]) == [whole]
    for side in ("val", "train"):
        folder.write(ready / f"{side}.json", document(ready))
    sides = [ready / "train.json", ready / "val.json"]
    assert folder.files([whole, ready]) == [whole, *sides]
    (ready / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no annotations\.json in it; make it with"):
        folder.files([ready / "empty"])


def test_pictures_are_searched_as_named_then_in_images_then_beside_the_file(
    ready: Path,
) -> None:
    file = ready / "annotations.json"
    assert folder.root_of(file, ready / "other") == ready / "other"
    assert folder.root_of(file, None) == ready / "images"
    assert folder.root_of(ready / "images" / "set.json", None) == ready / "images"


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


@pytest.mark.parametrize("root", [".", "images"])
def test_names_with_a_dot_or_a_whole_path_are_split_and_keep_their_split(
    root: str, ready: Path
) -> None:
    main(["data", "split", str(ready), "--workers", "1"])
    first = sides_of(ready)
    content = document(ready)
    for image in content["images"]:
        image["id"] = str(image["id"])
        image["file_name"] = f"{ready / root if root == 'images' else root}/{image['file_name']}"
    folder.write(ready / "annotations.json", content)
    main(["data", "split", str(ready), "--val", "0.4", "--workers", "1"])
    assert {Path(name).name: side for name, side in sides_of(ready).items()} == first
    assert len(document(ready, "train")["annotations"]) == len(document(ready, "train")["images"])


def test_pictures_stay_in_their_split_when_the_set_grows(tmp_path: Path):
    output = tmp_path / "set"
    for count in (20, 40):
        imported(labelled.coco(tmp_path / "source", count), "coco", output)
        main(["data", "split", str(output), "--workers", "1"])
        if count == 20:
            first = sides_of(output)
    grown = sides_of(output)
    assert len(grown) == 40
    assert {name: grown[name] for name in first} == first


def test_near_duplicates_stay_in_one_split(tmp_path: Path):
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


def test_near_duplicates_are_one_group_in_any_order(ready: Path) -> None:
    data = folder.read(ready / "annotations.json", None)
    same = Fingerprint((64, 48), 1, bytes(192), "")
    taken = {
        lookup.real(one.path): replace(same, sha256=str(number))
        for number, one in enumerate(data.pictures)
    }
    for pictures in (data.pictures, data.pictures[::-1]):
        (group,) = split.make_groups(replace(data, pictures=pictures), taken, ready / "images")
        assert group.key == "0"
        assert group.labels == set(data.labels.values())


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


def test_folder_that_was_not_imported_is_refused_with_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "split", str(tmp_path)]) == EXIT_NO_INPUT
    assert "make it with edge-tools data import" in capsys.readouterr().err
