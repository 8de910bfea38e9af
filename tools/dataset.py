"""Labelled pictures in COCO JSON with two optional fields of our own.

Per image: `exhaustive_classes` (of a class not listed, objects may be unannotated there) and
`ignore_regions` (boxes in which detections are neither right nor wrong).
"""

from __future__ import annotations

import json
import random
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge import picture_file
from edge.errors import InputError, brief
from edge.values import Image
from tools.data.entry import number, region, whole_number

_NEEDED = ("image_id", "category_id", "bbox")
_NUMBERS: dict[str, Callable[[object], float]] = {
    "image_id": whole_number,
    "category_id": whole_number,
    "area": number,
    "iscrowd": whole_number,
}


@dataclass(frozen=True)
class Picture:
    """One image of a set.

    exhaustive_classes: labels of which every object in this picture is annotated.
    ignore_regions: x, y, width, height in pixels.
    """

    image_id: int
    path: Path
    width: int
    height: int
    source: str
    exhaustive_classes: frozenset[str]
    ignore_regions: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Dataset:
    """A set's pictures and annotations.

    labels: category name by id. annotations: COCO dicts (image_id, category_id, bbox in pixels,
    area, iscrowd).
    """

    name: str
    pictures: tuple[Picture, ...]
    labels: dict[int, str]
    annotations: tuple[dict[str, Any], ...]


def read(annotations: Path, images: Path) -> Dataset:
    """Return the set in a COCO JSON file; its file names are relative to `images`.

    Categories of one name are merged under the first one's id. Raises InputError when the file is
    missing or not COCO JSON, has no picture or one twice, or an annotation that `checked` refuses
    or of a picture that is not listed.
    """
    data = read_unchecked(annotations, images)
    if not data.pictures:
        raise InputError(f"annotations {annotations}: no picture in it; name another file")
    if len({picture.image_id for picture in data.pictures}) < len(data.pictures):
        message = f"a picture is listed twice; {_see_check(annotations)}"
        raise InputError(f"annotations {annotations}: {message}")
    known = {picture.image_id for picture in data.pictures}
    found = []
    for place, item in enumerate(data.annotations):
        try:
            found.append(_of_picture(checked(item, data.labels), known))
        except ValueError as error:
            message = f"a broken annotation ({id_of(item, place)}: {_reason(error)})"
            raise InputError(
                f"annotations {annotations}: {message}; {_see_check(annotations)}"
            ) from None
    ids = {name: key for key, name in reversed(data.labels.items())}
    for item in found:  # merge categories of one name
        item["category_id"] = ids[data.labels[item["category_id"]]]
    labels = {key: name for key, name in data.labels.items() if ids[name] == key}
    return replace(data, labels=labels, annotations=tuple(found))


def _see_check(annotations: Path) -> str:
    return f"see edge-tools data check {shlex.quote(str(annotations))}"


def read_unchecked(annotations: Path, images: Path) -> Dataset:
    """Return a set with its annotations as found in the file, not passed through `checked`.

    Raises InputError when the file is missing or not COCO JSON, or when two pictures or two
    categories have one id.
    """
    try:
        document = _object(json.loads(annotations.read_bytes()))
        named = [
            (whole_number(item["id"]), str(item["name"]).strip()) for item in document["categories"]
        ]
        labels = _by_id("category", named)
        every = frozenset(labels.values())
        pictures = tuple(_picture(item, images, every) for item in document["images"])
        _by_id(
            "image", [(whole_number(item["id"]), item["file_name"]) for item in document["images"]]
        )
        found = tuple(document["annotations"])
    except IsADirectoryError:
        raise InputError(f"annotations {annotations}: a folder; name the JSON file in it") from None
    except OSError as error:
        raise InputError(f"annotations {annotations}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"annotations {annotations}: not COCO JSON ({_reason(error)})") from None
    name = f"{annotations.parent.resolve().name}/{annotations.stem}"
    return Dataset(name, pictures, labels, found)


def _by_id(kind: str, named: Sequence[tuple[int, str]]) -> dict[int, str]:
    """Return names by id; ValueError when an id occurs twice. kind: for the message."""
    found: dict[int, str] = {}
    for key, name in named:
        if found.setdefault(key, name) != name:
            raise ValueError(f"{kind} id {key} is that of {found[key]} and of {name}")
    return found


def checked(item: Any, labels: dict[int, str]) -> dict[str, Any]:
    """Return an annotation with ids, bbox, area and iscrowd converted to numbers.

    labels: category name by id. Fields that are null are dropped. Raises ValueError saying what is
    wrong; the box is not checked: it may be empty or outside the picture.
    """
    if not isinstance(item, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one error for all faults
    found = {key: value for key, value in item.items() if value is not None}
    for key in _NEEDED:
        if key not in found:
            raise ValueError(f"has no {key!r}")
    for key in _NUMBERS.keys() & found.keys():
        try:
            found[key] = _NUMBERS[key](found[key])
        except ValueError as error:
            raise ValueError(f"{key} {error}") from None
    if found["category_id"] not in labels:
        raise ValueError(f"category id {found['category_id']} is not among the categories")
    found["bbox"] = list(region(found["bbox"]))
    return found


def _of_picture(item: dict[str, Any], known: Collection[int]) -> dict[str, Any]:
    """Return a checked annotation; ValueError when its picture is not among the `known` ids."""
    if item["image_id"] not in known:
        raise ValueError(f"no image with id {item['image_id']}")
    return item


def id_of(item: Any, place: int) -> object:
    """Return how messages name an annotation: by its id, else by its index from 0."""
    return item.get("id", place) if isinstance(item, dict) else place


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise TypeError("it is not a JSON object")
    return document


def _reason(error: Exception) -> str:
    """Return a short form of an error; some of Python's contain the whole file."""
    return f"no {error}" if isinstance(error, KeyError) else brief(error, 120)


def _picture(item: Any, images: Path, every: frozenset[str]) -> Picture:
    if not isinstance(item, dict):
        raise TypeError("one of its images is not a JSON object")
    name = item["file_name"]
    if not isinstance(name, str):
        raise TypeError(f"image {item['id']}: file_name {name!r} is no text")
    regions = (tuple(float(value) for value in one) for one in item.get("ignore_regions") or ())
    return Picture(
        image_id=whole_number(item["id"]),
        path=images / name,
        width=int(item["width"]),
        height=int(item["height"]),
        source=str(item.get("source", "")),
        exhaustive_classes=_exhaustive(item.get("exhaustive_classes"), every),
        ignore_regions=tuple((x, y, width, height) for x, y, width, height in regions),
    )


def _exhaustive(names: Any, every: frozenset[str]) -> frozenset[str]:
    """Return the classes that a picture is labelled for; names: from the file, None: all."""
    if names is None:
        return every
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"exhaustive_classes {names!r} is not a list of class names")
    return frozenset(map(str.strip, names))


def load(picture: Picture) -> Image:
    """Return the picture's pixels; see `load_file`."""
    return load_file(picture.path)


def load_file(path: Path) -> Image:
    """Return a picture file's pixels, uint8 BGR; InputError when it cannot be read."""
    try:  # not imread: it crashes on a name that is not UTF-8
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; is it the right folder?") from None
    return decoded(content, path)


def decoded(content: bytes, path: Path) -> Image:
    """Return the pixels in a picture file's content, uint8 BGR; InputError when it is none."""
    try:
        bgr = picture_file.decode(np.frombuffer(content, np.uint8))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    except cv2.error:
        bgr = None
    if bgr is None:
        raise InputError(f"{path}: cannot be read as a picture; repair or remove it")
    return bgr


def file_stamp(path: Path) -> str:
    """Return a file's size and time, which tell it from another of its name.

    Empty when it is missing, which reading it reports.
    """
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def check_inside(path: Path, box_px: Sequence[float], bgr: Image) -> None:
    """Raise InputError when the box (x, y, width, height) contains no pixel of the picture."""
    height, width = bgr.shape[:2]
    x, y, box_width, box_height = box_px
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        raise InputError(
            f"{path}: the box {list(box_px)} lies outside of its {width}x{height} pixels; "
            "correct its row"
        )


def stratified(pictures: tuple[Picture, ...], count: int, seed: int = 0) -> list[Picture]:
    """Return about `count` pictures, stratified by source, in a random order set by `seed`.

    Shares are rounded, so there may be a few less than `count`, never more.
    """
    by_source: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        by_source[picture.source].append(picture)
    rng = random.Random(seed)
    chosen: list[Picture] = []
    for source in sorted(by_source):
        group = by_source[source]
        share = max(round(count * len(group) / len(pictures)), 1)
        chosen += rng.sample(group, min(share, len(group)))
    rng.shuffle(chosen)
    return chosen[:count]
