"""Sets that come with a split of their own, as folders."""

from __future__ import annotations

from pathlib import Path

import pytest

import labelled
from edge.errors import EXIT_NO_INPUT, EXIT_OK
from labelled import document, imported
from tools.cli import main
from tools.data.split import _folder_split

pytest.importorskip("imagehash")


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """An imported set whose `train` has 12 pictures, `valid` 6."""
    source = labelled.yolo(tmp_path / "source", 18)
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        (source / kind / "valid").mkdir()
        for number in range(12, 18):
            (source / kind / "train" / f"{number}.{suffix}").rename(
                source / kind / "valid" / f"{number}.{suffix}"
            )
    assert imported(source, "yolo", tmp_path / "set") == EXIT_OK
    return tmp_path / "set"


def split(data: Path, *options: str) -> int:
    return main(["data", "split", str(data), "--workers", "1", *options])


def test_folders_named_after_splits_are_kept_with_the_option(ready: Path):
    split(ready)
    assert split(ready, "--keep-folders") == EXIT_OK
    for side, parent, count in (("train", "train", 12), ("val", "valid", 6)):
        names = [image["file_name"] for image in document(ready, side)["images"]]
        assert len(names) == count
        assert {Path(name).parent.name for name in names} == {parent}
    assert not (ready / "test.json").exists()


def test_mixing_folders_named_after_splits_is_reported_once(
    ready: Path, capsys: pytest.CaptureFixture[str]
):
    split(ready)
    message = capsys.readouterr().err
    assert f"{ready}: its folders train, val are mixed and split anew; --keep-folders" in message
    split(ready)
    assert capsys.readouterr().err == ""


def test_pictures_of_one_folder_alone_are_not_reported_as_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    imported(labelled.yolo(tmp_path / "source", 6), "yolo", tmp_path / "set")
    capsys.readouterr()
    assert split(tmp_path / "set") == EXIT_OK
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("train/a.jpg", "train"),
        ("street/Valid/cat/a.jpg", "val"),
        ("testing/a.jpg", None),
        ("street/test", None),
    ],
)
def test_split_is_that_of_any_folder_of_a_picture(name: str, side: str | None):
    assert _folder_split(name) == side


def test_keep_folders_is_refused_where_no_folder_is_named_after_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    imported(labelled.voc(tmp_path / "source", 4), "voc", tmp_path / "set")
    capsys.readouterr()
    assert split(tmp_path / "set", "--keep-folders") == EXIT_NO_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "no folder train, val or test" in line
