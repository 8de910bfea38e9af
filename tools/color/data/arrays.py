"""Labelled crops as arrays, which training reads, kept in a cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import durable
from edge.color import TERMS, shrink
from edge.values import Image
from tools.color.data.dataset import ColorItem, read_crops
from tools.color.data.rows import BoxPx
from tools.dataset import file_stamp
from tools.progress import track

Arrays = dict[str, NDArray[Any]]  # by name
# Classes of scene objects, in the order of the network's class planes.
OBJECT_CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "bird", "cat", "dog")
NO_CLASS = -1


@dataclass(frozen=True)
class Packed:
    """Crops as arrays.

    rgb: uint8, (n, side, side, 3): the object's box with a margin, stretched.
    boxes: float32, (n, 4): the box in the stretched crop, x0, y0, x1, y1, 0..1.
    shares: float32, (n, 11). weights: float32, (n,).
    classes: int64, (n,), index into OBJECT_CLASSES or NO_CLASS.
    steady: bool, (n,), whether training must not change the light, on which the label depends.
    """

    rgb: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    shares: NDArray[np.float32]
    weights: NDArray[np.float32]
    classes: NDArray[np.int64]
    steady: NDArray[np.bool_]


def pack(items: Sequence[ColorItem], side: int, margin: float) -> Packed:
    """Return the items' crops stretched to side x side pixels."""
    crops = track(read_crops(items, margin), "decoding crops", total=len(items))
    return stretched(items, crops, side)


def stretched(
    items: Sequence[ColorItem], crops: Iterable[tuple[Image, BoxPx]], side: int
) -> Packed:
    """Return crops, as `read_crops` yields them, stretched to side x side pixels."""
    rgb = np.empty((len(items), side, side, 3), np.uint8)
    boxes = np.empty((len(items), 4), np.float32)
    for index, (crop, (x, y, width, height)) in enumerate(crops):
        rgb[index] = shrink(crop, (side, side))[..., ::-1]
        full_height, full_width = crop.shape[:2]
        left, top = x / full_width, y / full_height
        boxes[index] = (left, top, left + width / full_width, top + height / full_height)
    return _packed(items, rgb, boxes.clip(0, 1))


def _packed(
    items: Sequence[ColorItem], rgb: NDArray[np.uint8], boxes: NDArray[np.float32]
) -> Packed:
    """Return pixels and boxes with the items' targets and classes; see `Packed` for the shapes."""
    return Packed(
        rgb,
        boxes,
        shares=np.array([item.shares for item in items], np.float32).reshape(-1, len(TERMS)),
        weights=np.array([item.weight for item in items], np.float32),
        classes=np.array([class_index(item.object_class) for item in items], np.int64),
        steady=np.array([item.is_product for item in items], bool),
    )


def joined(first: Packed, *others: Packed) -> Packed:
    """Return all crops in one `Packed`; they must have the same size."""
    some = [other for other in others if len(other.rgb)]
    if not some:
        return first  # saves a copy, which may be gigabytes
    names = [field.name for field in fields(Packed)]
    return Packed(
        *(np.concatenate([getattr(one, name) for one in (first, *some)]) for name in names)
    )


def fingerprint(items: Sequence[ColorItem]) -> str:
    """Return a text that differs for different lists of crops, and for changed pictures."""
    stamps = {file: file_stamp(file) for file in {item.file for item in items}}
    return " ".join(f"{item.file} {stamps[item.file]} {item.box_px}" for item in items)


def class_index(name: str | None) -> int:
    """Return the index in OBJECT_CLASSES, NO_CLASS for another name."""
    return OBJECT_CLASSES.index(name) if name in OBJECT_CLASSES else NO_CLASS


def pack_cached(items: Sequence[ColorItem], side: int, margin: float, cache: Path) -> Packed:
    """Return what `pack` returns, from the cache folder when it was made before.

    The file's name is a hash of items, pictures' files and size, so others get another file.
    """
    mark = f"{side} {margin} " + fingerprint(items)

    def make() -> Arrays:
        packed = pack(items, side, margin)
        return {"rgb": packed.rgb, "boxes": packed.boxes}

    stored = cached(mark, cache, make)
    return _packed(items, stored["rgb"], stored["boxes"])


def cached(mark: str, cache: Path, make: Callable[[], Arrays]) -> Arrays:
    """Return what `make` returns, from the cache folder when it was made before.

    mark: everything that the arrays depend on; the file's name is a hash of it.
    """
    path = cache / f"color-{hashlib.sha256(os.fsencode(mark)).hexdigest()[:16]}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        arrays = make()
        with (cache / ".lock").open("w") as lock:  # trainings side by side share the cache
            fcntl.flock(lock, fcntl.LOCK_EX)
            with durable.replacing(path) as file:
                np.savez(file, allow_pickle=False, **arrays)
    with np.load(path) as stored:
        return dict(stored)
