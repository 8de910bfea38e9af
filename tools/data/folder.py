"""Reads and writes the COCO files of a data set's folder."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from edge import durable
from edge.errors import EdgeError, InputError, why_not_written
from tools import dataset
from tools.dataset import Dataset, Picture

ALL = "annotations"
SPLITS = ("train", "val", "test")
CLASSIFICATION, DETECTION = "classification", "detection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name a data set."""
    parser.add_argument("data", type=Path, nargs="+", help="data set's folder, or its COCO files")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="root of the file names; default: images",
    )


def files(data: list[Path]) -> list[Path]:
    """Return the COCO files named by `data`: of a folder its splits, else its annotations.json.

    Raises InputError when a folder has neither.
    """
    found: list[Path] = []
    for path in data:
        if not path.is_dir():
            found.append(path)
            continue
        found += splits_in(path) or [whole(path)]
    return found


def whole(data: Path) -> Path:
    """Return the COCO file of all pictures in a data set; InputError when it is missing."""
    file = data / f"{ALL}.json"
    if not file.is_file():
        raise InputError(f"{data}: no {ALL}.json in it; make it with edge-tools data import")
    return file


def splits_in(data: Path) -> list[Path]:
    """Return the splits that a folder has."""
    return [file for file in (data / f"{name}.json" for name in SPLITS) if file.is_file()]


def stale_splits(data: Path) -> str | None:
    """Return the names of a folder's splits if their content differs from its annotations.json.

    None if it is the same, or if either is missing. A file that cannot be read counts as different.
    """
    splits, whole = splits_in(data), data / f"{ALL}.json"
    if not splits or not whole.is_file():
        return None
    try:
        if _contents([whole]) == _contents(splits):
            return None
    except InputError:
        pass
    return ", ".join(file.name for file in splits)


def split_again(data: Path) -> str:
    """Return what to do about stale splits, as the end of a message."""
    return f"run edge-tools data split {shlex.quote(str(data))}"


def _contents(files: list[Path]) -> tuple[set[Picture], set[str], set[tuple[tuple[int, str], ...]]]:
    """Return the pictures of all files, their annotations as text, and the classes of each file."""
    sets = [dataset.read_unchecked(file, file.parent) for file in files]
    pictures = {picture for data in sets for picture in data.pictures}
    numbers = {str(picture.image_id) for picture in pictures}
    annotations = {
        json.dumps(item, sort_keys=True)
        for data in sets
        for item in data.annotations
        if isinstance(item, dict) and str(item.get("image_id")) in numbers
    }
    return pictures, annotations, {tuple(sorted(data.labels.items())) for data in sets}


def root_of(file: Path, images: Path | None) -> Path:
    """Return the folder that a COCO file's names are relative to.

    That is `images` if given, else the folder `images` beside the file, else the file's folder.
    """
    beside = file.parent / "images"
    return images or (beside if beside.is_dir() else file.parent)


def read(file: Path, images: Path | None, *, is_checked: bool = True) -> Dataset:
    """Return one COCO file's data set; images: see `root_of`.

    is_checked: whether a set without pictures or with a broken annotation raises InputError.
    """
    root = root_of(file, images)
    return dataset.read(file, root) if is_checked else dataset.read_unchecked(file, root)


def read_all(data: list[Path], images: Path | None, *, is_checked: bool = True) -> list[Dataset]:
    """Return the data sets of all files that `data` names; see `files` and `read`."""
    return [read(file, images, is_checked=is_checked) for file in files(data)]


def name_of(path: Path, root: Path) -> str:
    """Return a picture's path relative to `root`, whole where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def document(file: Path) -> dict[str, Any]:
    """Return the content of a COCO file; InputError when it cannot be read."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {' '.join(str(error).split())}") from None


def write(file: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; EdgeError when it cannot be written."""
    try:
        durable.replace(file, f"{json.dumps(content)}\n".encode())
    except OSError as error:
        raise EdgeError(f"{file}: {why_not_written(error)}") from None
