"""Objects whose color is to be labelled, and the file with their labels.

A data set is a folder of pictures, a COCO JSON file with boxes, or a list of rows as
`scene_color/labels.json`, `scene_color/more.json` and `color/labels.json` of the data folder have.
The label file is such a list, one row a line: `image`, `bbox` (pixels x, y, width, height; null =
the whole picture), `cls`, and per labeller N: `label_N`, `colors_N` (dominant first), `sure_N`,
`outline_N` (polygons in pixels), `by_N`; `agreed` where two have answered. `dataset` reads the same
rows.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec

from edge import durable
from edge.color import TERMS
from edge.errors import EdgeError, InputError
from edge.values import Box, Polygon
from tools import dataset
from tools.color.data.labels import LABELS, UNCLEAR
from tools.data.entry import is_utf8, pictures_below

Row = dict[str, Any]
Key = tuple[str, tuple[int, ...]]
LABELS_NAME = "color-labels.json"
SET_NAME = "labels.json"
Label = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(LABELS)})$")]
Color = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(TERMS)})$")]
Outline = Annotated[Polygon, msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class LabelObject:
    """An object to be labelled.

    file: its picture; image: the picture's name in the labels. box_px: None = the whole picture.
    cls: its class, empty where it is not known. human: the labels in the data set itself.
    """

    file: Path
    image: str
    box_px: Box | None
    cls: str
    human: Row = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Return the object's key, unique in its data set."""
        return _key(self.image, self.box_px)

    def row(self) -> Row:
        """Return the object's row in a label file, without labels."""
        box = None if self.box_px is None else [round(float(side), 1) for side in self.box_px]
        return {"image": self.image, "bbox": box, "cls": self.cls}


def _key(image: str, box_px: Iterable[float] | None) -> Key:
    """Return an object's key, the same for its box and for the rounded one in its row."""
    return image, () if box_px is None else tuple(round(round(side, 1)) for side in box_px)


def read_objects(
    source: Path, images: Path | None = None, split: str | None = None
) -> list[LabelObject]:
    """Return a data set's objects, in its order.

    images: where the pictures are; default: the folder, or beside the JSON file.
    split: only rows of that split.
    Raises InputError when there is no object, the file is of no known kind, or a split is asked of
    data without splits.
    """
    if source.is_dir() and not (source / SET_NAME).is_file():
        _refuse_split(source, split)
        found = _folder(source)
    else:
        file = source / SET_NAME if source.is_dir() else source
        document = _document(file)
        if isinstance(document, dict):
            _refuse_split(file, split)
            found = _coco(file, images or _pictures(file, document))
        else:
            found = _listed(file, document, images, split)
    odd = next((one.file for one in found if not is_utf8(one.image)), None)
    if odd is not None:
        raise InputError(f"{odd}: its name is not UTF-8; rename it")
    if not found and split is not None:
        raise InputError(f"{source}: no object of split {split!r}; name another with --split")
    if not found:
        raise InputError(f"{source}: no object to label; name a folder of pictures or a COCO file")
    return found


def _refuse_split(source: Path, split: str | None) -> None:
    if split is not None:
        raise InputError(f"{source} has no splits; leave out --split {split}")


def read_box(value: object) -> Box | None:
    """Return a row's box, None = the whole picture; ValueError for any other value."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_finite, value)):
        raise ValueError(f"bbox {value!r} is not x, y, width, height")
    return Box(*value)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def labels_path(source: Path) -> Path:
    """Return the file for a data set's labels, beside its pictures."""
    if source.is_dir():
        return source / LABELS_NAME
    return source.with_name(f"{source.stem}.{LABELS_NAME}")


def _folder(folder: Path) -> list[LabelObject]:
    """Return the pictures in a folder and its subfolders, without hidden ones."""
    return [
        LabelObject(file, file.relative_to(folder).as_posix(), None, "")
        for file in pictures_below(folder)
    ]


def _coco(file: Path, images: Path) -> list[LabelObject]:
    """Return the objects of a COCO file without its crowds.

    Raises InputError for a broken file, and for a picture outside of `images`.
    """
    found = dataset.read(file, images)
    files = {picture.image_id: picture.path for picture in found.pictures}
    odd = next((path for path in files.values() if not path.is_relative_to(images)), None)
    if odd is not None:
        raise InputError(f"{file}: picture {odd} is not in {images}; name its folder with --images")
    return [
        LabelObject(
            path := files[one["image_id"]],
            path.relative_to(images).as_posix(),
            Box(*one["bbox"]),
            found.labels[one["category_id"]],
        )
        for one in found.annotations
        if not one.get("iscrowd")
    ]


def _listed(
    file: Path, rows: list[Row], images: Path | None, split: str | None
) -> list[LabelObject]:
    objects = []
    for number, row in enumerate(rows, 1):
        try:
            if split in (None, row.get("split")):
                objects.append(_listed_object(row, file.parent, images))
        except KeyError as error:
            raise InputError(f"{file}: row {number} has no {error}; add it") from None
        except ValueError as error:
            raise InputError(f"{file}: row {number}: {error}; correct it") from None
        except (TypeError, AttributeError):
            raise InputError(
                f"{file}: row {number} is not a labelled object; name COCO JSON or labelled rows"
            ) from None
    return objects


def _listed_object(row: Row, folder: Path, images: Path | None) -> LabelObject:
    """Return a row's object: in its picture when that is known, else as its crop."""
    human = {key: row[key] for key in row if key not in {"image", "bbox", "cls"}}
    label = row.get("cls") or ""
    if "image" in row and (images is not None or "file_name" not in row):
        box = read_box(row["bbox"])
        return LabelObject((images or folder) / row["image"], row["image"], box, label, human)
    name = row["file_name"]
    if "color" in row:
        human |= {"label_1": row["color"], "sure_1": True}
    elif (folder / row["split"]).is_dir():
        name = f"{row['split']}/{name}"
    return LabelObject(folder / name, name, None, label, human)


def _pictures(file: Path, document: dict[str, Any]) -> Path:
    """Return the folder with a COCO file's pictures: `train/` beside `train.json`, or its own."""
    try:
        first = str(document["images"][0]["file_name"])
    except (KeyError, IndexError, TypeError):
        return file.parent  # `dataset.read` raises the error
    named = file.with_suffix("")
    return named if (named / first).is_file() else file.parent


def _document(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; name a folder or a JSON file") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); name a folder or a COCO file") from None


class _Answers(msgspec.Struct):
    """The answers in a row; each may be missing."""

    label_1: Label = UNCLEAR
    label_2: Label = UNCLEAR
    colors_1: list[Color] = []
    colors_2: list[Color] = []
    outline_1: list[Outline] = []
    outline_2: list[Outline] = []


class LabelFile:
    """The labels of one data set: `put` writes the file, `save` writes changes made in `rows`."""

    def __init__(self, path: Path) -> None:
        """Read the file if it exists; InputError when it is no list of rows."""
        self.path = path
        self._saved: bytes | None = None
        rows = _document(path) if path.exists() else []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: not a list of color labels; name another with --labels")
        try:
            self.rows: dict[Key, Row] = {_key(row["image"], row["bbox"]): row for row in rows}
            for row in rows:
                msgspec.convert(row, _Answers)
        except KeyError as error:
            raise InputError(f"{path}: a row without {error}; name another with --labels") from None
        except TypeError:
            raise InputError(
                f"{path}: a row whose bbox is not x, y, width, height; name another with --labels"
            ) from None
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: a row of {row['image']}: {error}; correct it") from None

    def get(self, key: Key) -> Row | None:
        """Return an object's row, None when there is none."""
        return self.rows.get(key)

    def put(self, key: Key, row: Row | None) -> None:
        """Replace the object's row, or remove it (None); the file is written on return.

        Raises EdgeError when another program has changed what `save` wrote.
        """
        if self._saved is not None and self.path.exists() and self.path.read_bytes() != self._saved:
            raise EdgeError(
                f"not saved: another program changed {self.path}; end this command and start it "
                "again, to read the change"
            )
        former = self.rows.pop(key, None)
        if row is not None:
            self.rows[key] = row
        try:
            self.save()
        except OSError:
            self.rows.pop(key, None)
            if former is not None:
                self.rows[key] = former
            raise

    def save(self) -> None:
        """Write all rows; a kill at any moment leaves either the old file or the new one."""
        lines = b",\n".join(msgspec.json.encode(row) for row in self.rows.values())
        content = b"[\n" + lines + b"\n]\n"
        durable.replace(self.path, content, is_synced=True)
        self._saved = content


@contextmanager
def opened(path: Path, option: str) -> Iterator[LabelFile]:
    """Lock a label file for one command and yield its content; make its folder.

    option: the command's option that names another file, for messages. Raises EdgeError while
    another command holds the lock, as each would overwrite the other's labels, and when the file
    cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(lock)
    except BlockingIOError:
        told = "another edge-tools writes to it"
        raise EdgeError(f"{path}: {told}; end that, or name another file with {option}") from None
    except OSError as error:
        raise _unwritable(path, error, option) from None
    with file:
        try:
            labels = LabelFile(path)
            _check_writable(labels, option)
            yield labels
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path) -> TextIO:
    """Return the lock file, open and locked; BlockingIOError while another process has it."""
    while True:
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, file):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # its owner removed it at its end, after we had opened it


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _check_writable(labels: LabelFile, option: str) -> None:
    try:
        labels.save()
    except OSError as error:
        raise _unwritable(labels.path, error, option) from None


def _unwritable(path: Path, error: OSError, option: str) -> EdgeError:
    return EdgeError(f"{path}: {error.strerror}; name a file you may write with {option}")


def with_agreement(row: Row) -> Row:
    """Return the row with `agreed` where two labellers have answered, null where they differ."""
    row = {key: value for key, value in row.items() if key != "agreed"}
    if "label_1" in row and "label_2" in row:
        row["agreed"] = row["label_1"] if row["label_1"] == row["label_2"] else None
    return row
