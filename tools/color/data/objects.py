"""Objects whose color is to be labelled.

A data set is a folder of pictures, a folder that `data import` wrote, a COCO JSON file with boxes,
or a list of rows as `scene_color/labels.json`, `scene_color/more.json` and `color/labels.json` of
the data folder have; `label_file` describes the rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import InputError
from edge.values import Box
from tools import dataset
from tools.data.entry import is_utf8, pictures_below
from tools.data.folder import ALL, splits_in

Row = dict[str, Any]
Key = tuple[str, tuple[int, ...]]
LABELS_NAME = "color-labels.json"
SET_NAME = "labels.json"


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
        return key_of(self.image, self.box_px)

    def row(self) -> Row:
        """Return the object's row in a label file, without labels."""
        box = None if self.box_px is None else [round(float(side), 1) for side in self.box_px]
        return {"image": self.image, "bbox": box, "cls": self.cls}


def key_of(image: str, box_px: Iterable[float] | None) -> Key:
    """Return an object's key, the same for its box and for the rounded one in its row."""
    return image, () if box_px is None else tuple(round(round(side, 1)) for side in box_px)


def read_objects(
    source: Path, images: Path | None = None, split: str | None = None
) -> list[LabelObject]:
    """Return a data set's objects, in its order.

    images: where the pictures are; default: the folder, or beside the JSON file, there in a folder
        of its name or in `images/`.
    split: only rows of that split.
    Raises InputError when there is no object or none of its pictures, the file is of no known kind,
    or a split is asked of data without splits.
    """
    if source.is_dir() and not (source / SET_NAME).is_file():
        _refuse_split(source, split)
        found = _imported(source, images) or _folder(source)
    else:
        file = source / SET_NAME if source.is_dir() else source
        document = read_json(file)
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
    if not any(one.file.is_file() for one in found):
        raise InputError(
            f"{found[0].file}: No such file or directory, nor any other picture of {source}; "
            "name their folder with --images"
        )
    return found


def _refuse_split(source: Path, split: str | None) -> None:
    if split is not None:
        raise InputError(f"{source} has no splits; leave out --split {split}")


def file_name(row: Row, key: str) -> str:
    """Return a row's file name; KeyError when it has none, ValueError when that is no text."""
    name = row[key]
    if not isinstance(name, str):
        raise ValueError(f"{key} {name!r} is not a file name")  # noqa: TRY004 - a wrong row
    return name


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


def _imported(folder: Path, images: Path | None) -> list[LabelObject]:
    """Return the objects of a folder that `data import` wrote, none for another folder."""
    files = splits_in(folder) or [folder / f"{ALL}.json"]
    return [
        one
        for file in files
        if file.is_file()
        for one in _coco(file, images or _pictures(file, read_json(file)))
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
        image = file_name(row, "image")
        box = read_box(row["bbox"])
        return LabelObject((images or folder) / image, image, box, label, human)
    name = row["file_name"]
    if "color" in row:
        human |= {"label_1": row["color"], "sure_1": True}
    elif (folder / row["split"]).is_dir():
        name = f"{row['split']}/{name}"
    return LabelObject(folder / name, name, None, label, human)


def _pictures(file: Path, document: dict[str, Any]) -> Path:
    """Return the folder with a COCO file's pictures.

    That is `train/` beside `train.json`, else `images/` there, else the file's own folder.
    """
    try:
        first = str(document["images"][0]["file_name"])
    except (KeyError, IndexError, TypeError):
        return file.parent  # `dataset.read` raises the error
    named = (file.with_suffix(""), file.with_name("images"))
    return next((folder for folder in named if (folder / first).is_file()), file.parent)


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; InputError when it cannot be read."""
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; name a folder or a JSON file") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); name a folder or a COCO file") from None
