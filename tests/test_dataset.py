"""COCO files as trainings and evaluations read them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from coco_sets import HERE, annotation, write_set
from edge.errors import InputError
from tools import dataset


def test_sample_keeps_the_share_of_each_source_and_depends_on_the_seed(tmp_path: Path) -> None:
    images: list[dict[str, Any]] = [{"source": "street" if n % 4 else "room"} for n in range(40)]
    data = write_set(tmp_path, images, [])
    chosen = dataset.stratified(data.pictures, 12, seed=1)
    assert sum(picture.source == "room" for picture in chosen) == 3
    random.seed(9)
    assert dataset.stratified(data.pictures, 12, seed=1) == chosen
    assert dataset.stratified(data.pictures, 12, seed=2) != chosen


def test_set_in_the_working_folder_is_named_after_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path, [{}], [])
    monkeypatch.chdir(tmp_path)
    assert dataset.read(Path("some.json"), Path()).name == f"{tmp_path.name}/some"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{}], "categories": []}'])
def test_file_that_is_not_coco_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"odd\.json"):
        dataset.read(path, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_file_as_windows_programs_save_it_is_read(tmp_path: Path, encoding: str) -> None:
    data = write_set(tmp_path, [{}], [annotation(1, HERE)])
    path = tmp_path / "some.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert dataset.read(path, tmp_path) == data


def test_keys_that_are_null_count_as_missing(tmp_path: Path) -> None:
    odd = {"exhaustive_classes": None, "ignore_regions": None}
    (picture,) = write_set(tmp_path, [odd], []).pictures
    assert picture.exhaustive_classes == {"person", "car"}
    assert picture.ignore_regions == ()


@pytest.mark.parametrize("names", ["person", [1, 3], {"person": True}])
def test_exhaustive_classes_that_are_no_list_of_names_are_refused(
    tmp_path: Path, names: object
) -> None:
    with pytest.raises(InputError, match=r"exhaustive_classes .* is not a list of class names"):
        write_set(tmp_path, [{"exhaustive_classes": names}], [])


def test_missing_annotations_and_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        dataset.read(tmp_path / "nowhere.json", tmp_path)
    data = write_set(tmp_path, [{}], [])
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png"):
        dataset.load(data.pictures[0])
