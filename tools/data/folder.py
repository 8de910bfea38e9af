"""The data set's folder: which COCO files are in it, read and written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edge import durable
from edge.errors import EdgeError, InputError
from tools import dataset
from tools.dataset import Dataset, Picture

ALL = "annotations"
SPLITS = ("train", "val", "test")
CLASSIFICATION, DETECTION = "classification", "detection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which data set is meant."""
    parser.add_argument("data", type=Path, nargs="+", help="data set's folder, or its COCO files")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="where the file names begin; default: images"
    )


def files(data: list[Path]) -> list[Path]:
    """Return the COCO files that are meant: the splits of a folder, else its annotations.json.

    Raises InputError when a folder has neither.
    """
    found: list[Path] = []
    for path in data:
        if not path.is_dir():
            found.append(path)
            continue
        present = splits_in(path) or [path / f"{ALL}.json"]
        if not present[0].is_file():
            raise InputError(f"{path}: no {ALL}.json in it; make it with edge-tools data import")
        found += present
    return found


def splits_in(data: Path) -> list[Path]:
    """Return the splits that a folder has."""
    return [file for file in (data / f"{name}.json" for name in SPLITS) if file.is_file()]


def stale_splits(data: Path) -> str | None:
    """Return a folder's splits by name, where they hold other things than its annotations.json.

    None where they hold the same, or where one of both is missing. What cannot be read is other.
    """
    splits, whole = splits_in(data), data / f"{ALL}.json"
    if not splits or not whole.is_file():
        return None
    try:
        if _held([whole]) == _held(splits):
            return None
    except InputError:
        pass
    return ", ".join(file.name for file in splits)


def _held(files: list[Path]) -> tuple[set[Picture], set[str], set[tuple[tuple[int, str], ...]]]:
    """Return the pictures of COCO files together, their annotations as text, and the classes."""
    sets = [dataset.read_as_is(file, file.parent) for file in files]
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
    """Return where a COCO file's names begin: as named, `images` beside it, or its own folder."""
    beside = file.parent / "images"
    return images or (beside if beside.is_dir() else file.parent)


def read(file: Path, images: Path | None, *, is_checked: bool = True) -> Dataset:
    """Return one COCO file's data set; pictures are in `images` beside it unless named.

    is_checked: whether a set without pictures or with a broken annotation is an InputError.
    """
    root = root_of(file, images)
    return dataset.read(file, root) if is_checked else dataset.read_as_is(file, root)


def read_all(data: list[Path], images: Path | None, *, is_checked: bool = True) -> list[Dataset]:
    """Return all data sets that are meant, in their order; see `read`."""
    return [read(file, images, is_checked=is_checked) for file in files(data)]


def name_of(picture: Picture, root: Path) -> str:
    """Return the file name that a COCO file has for a picture."""
    return picture.path.relative_to(root).as_posix()


def document(file: Path) -> dict[str, Any]:
    """Return a COCO file as it is; InputError when it cannot be read."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {' '.join(str(error).split())}") from None


def write(file: Path, content: dict[str, Any]) -> None:
    """Write JSON in one step; EdgeError when it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(file, f"{json.dumps(content)}\n".encode())
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}; is the disk full?") from None
