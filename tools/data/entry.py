"""A labelled picture as every format's reader gives it, before it is imported."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from edge.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
Region = tuple[float, float, float, float]  # x, y, width, height
MARGIN_PX = 1.0  # by this much a box may stick out without a word: formats count from 0 or 1


@dataclass(frozen=True)
class Labelled:
    """An object; bbox: x, y, width, height, in pixels, or in shares of the picture.

    bbox None: the whole picture. is_crowd: many objects under one box.
    """

    label: str
    bbox: Region | None
    is_crowd: bool = False
    is_relative: bool = False


@dataclass(frozen=True)
class Entry:
    """One picture of a source; name: its path below `images/`, unique.

    size: (width, height) that the labels claim, None where they claim nothing.
    exhaustive_classes: None means all.
    """

    path: Path
    name: str
    objects: tuple[Labelled, ...]
    source: str = ""
    size: tuple[int, int] | None = None
    exhaustive_classes: tuple[str, ...] | None = None
    ignore_regions: tuple[Region, ...] = ()


@dataclass
class Listing:
    """What a reader found: pictures, classes in their order, and a line for all that is wrong.

    has_boxes: False where only whole pictures are labelled.
    """

    entries: list[Entry] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    has_boxes: bool = True

    def add_class(self, name: str) -> None:
        """Add a class that is not known yet."""
        if name not in self.classes:
            self.classes.append(name)

    def rename(self, names: Mapping[str, str]) -> None:
        """Give classes other names, by the old ones; two that get one name become one.

        Raises InputError when there is no such class.
        """
        for old in names:
            if old not in self.classes:
                raise InputError(f"--rename {old}: the classes are {', '.join(self.classes)}")
        new = {name: names.get(name, name) for name in self.classes}
        self.entries = [_renamed(entry, new) for entry in self.entries]
        self.classes = list(dict.fromkeys(new.values()))


def _renamed(entry: Entry, names: Mapping[str, str]) -> Entry:
    """Return a picture with other names; exhaustive is what all classes of a name were."""
    objects = tuple(replace(item, label=names[item.label]) for item in entry.objects)
    known = entry.exhaustive_classes
    if known is not None:
        unknown = {new for old, new in names.items() if old not in known}
        known = tuple(sorted(set(names.values()) - unknown))
    return replace(entry, objects=objects, exhaustive_classes=known)


def pictures_below(folder: Path) -> list[Path]:
    """Return the picture files in a folder and all below it, sorted.

    Hidden ones are left out: macOS writes such (`._a.jpg`) beside each picture.
    Raises InputError when the folder is missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def safe_name(name: str) -> str:
    """Return a picture's name as a relative path; ValueError when it leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"file name {name!r} leads out of the picture folder")
    return str(path)


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8: Python keeps the bytes of others in its own way."""
    return name.encode(errors="replace").decode() == name


def number(value: object) -> float:
    """Return a finite number; ValueError names what it is not."""
    try:
        read = float(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(read):
        raise ValueError(f"{value!r} is not a finite number")
    return read


def whole_number(value: object) -> int:
    """Return an id, also one written as text; ValueError when it is no whole number."""
    if isinstance(value, int | str) or (isinstance(value, float) and value.is_integer()):
        with contextlib.suppress(ValueError):
            return int(value)
    raise ValueError(f"{value!r} is no whole number")


def region(values: object) -> Region:
    """Return x, y, width, height; ValueError when they are not four finite numbers."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 4:
        raise ValueError(f"box {values!r} is not x, y, width, height")
    x, y, width, height = (number(value) for value in values)
    return (x, y, width, height)


def placed(item: Labelled, size: tuple[int, int]) -> tuple[Region, str | None]:
    """Return an object's box in pixels, cut to the picture, and what is wrong with it, if anything.

    size: (width, height) of the picture. Raises ValueError when nothing of the box is inside.
    """
    if item.bbox is None:
        return (0.0, 0.0, float(size[0]), float(size[1])), None
    factors = (*size, *size) if item.is_relative else (1, 1, 1, 1)
    x, y, width, height = (a * b for a, b in zip(item.bbox, factors, strict=True))
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, size[0]), min(y + height, size[1])
    told = f"{item.label} box {x:.1f},{y:.1f} {width:.1f}x{height:.1f}"
    if width <= 0 or height <= 0:
        raise ValueError(f"{told} is empty")
    if right <= left or bottom <= top:
        raise ValueError(f"{told} is outside the picture of {size[0]}x{size[1]}")
    beyond = max(left - x, top - y, x + width - right, y + height - bottom)
    sticks = f"{told} sticks out of {size[0]}x{size[1]}; cut" if beyond > MARGIN_PX else None
    return (left, top, right - left, bottom - top), sticks
