"""A labelled picture as every format's reader gives it, before it is imported."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from edge import lookup, picture_file
from edge.errors import InputError

SUFFIXES = picture_file.SUFFIXES | {".ppm"}  # of pictures that commands take from a folder
Region = tuple[float, float, float, float]  # x, y, width, height
MARGIN_PX = 1.0  # a box may exceed the picture by this much: formats count from 0 or from 1


@dataclass(frozen=True)
class Labelled:
    """An object. bbox: x, y, width, height, in pixels or as shares of the picture.

    bbox None: the object is the whole picture. is_crowd: one box around many objects.
    """

    label: str
    bbox: Region | None
    is_crowd: bool = False
    is_relative: bool = False


@dataclass(frozen=True)
class Entry:
    """One picture of a source. name: its path below `images/`, unique.

    size: (width, height) according to the labels, None if they do not give it.
    exhaustive_classes: classes of which every object is annotated; None: all classes.
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
    """What a reader found: pictures, classes in order, and one line per problem.

    has_boxes: False if only whole pictures are labelled.
    """

    entries: list[Entry] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    has_boxes: bool = True

    def add_class(self, name: str) -> None:
        """Add a class unless it is there already."""
        if name not in self.classes:
            self.classes.append(name)

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename classes. names: new name by old name; classes with one new name are merged.

        Raises InputError when there is no such class.
        """
        for old in names:
            if old not in self.classes:
                raise InputError(f"--rename {old}: the classes are {', '.join(self.classes)}")
        new = {name: names.get(name, name) for name in self.classes}
        self.entries = [_renamed(entry, new) for entry in self.entries]
        self.classes = list(dict.fromkeys(new.values()))


def _renamed(entry: Entry, names: Mapping[str, str]) -> Entry:
    """Return a picture with renamed classes; a merged one is exhaustive if all its parts were."""
    objects = tuple(replace(item, label=names[item.label]) for item in entry.objects)
    known = entry.exhaustive_classes
    if known is not None:
        unknown = {new for old, new in names.items() if old not in known}
        known = tuple(sorted(set(names.values()) - unknown))
    return replace(entry, objects=objects, exhaustive_classes=known)


def pictures_below(folder: Path) -> list[Path]:
    """Return the picture files in a folder and all below it, sorted.

    Hidden files and folders are left out: macOS writes such files (`._a.jpg`) beside each picture.
    Raises InputError when the folder is missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not lookup.is_folder(path)
    )


def safe_name(name: str) -> str:
    """Return a picture's name as a relative path; ValueError when it leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"file name {name!r} leads out of the picture folder")
    return str(path)


def is_utf8(name: str) -> bool:
    """Return whether a file's name is UTF-8; Python keeps other bytes as surrogate escapes."""
    return name.encode(errors="replace").decode() == name


def number(value: object) -> float:
    """Return a finite number; raise ValueError for anything else."""
    try:
        read = float(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(read):
        raise ValueError(f"{value!r} is not a finite number")
    return read


def whole_number(value: object) -> int:
    """Return an id, which may be given as text; ValueError when it is not a whole number."""
    if isinstance(value, int | str) or (isinstance(value, float) and value.is_integer()):
        with contextlib.suppress(ValueError):
            return int(value)
    raise ValueError(f"{value!r} is not a whole number")


def region(values: object) -> Region:
    """Return x, y, width, height; ValueError when they are not four finite numbers."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 4:
        raise ValueError(f"box {values!r} is not x, y, width, height")
    x, y, width, height = (number(value) for value in values)
    return (x, y, width, height)


def clipped_to_picture(item: Labelled, size: tuple[int, int]) -> tuple[Region, str | None]:
    """Return an object's box in pixels, clipped to the picture, and a complaint if it stuck out.

    size: (width, height) of the picture. Raises ValueError when the box is empty or outside.
    """
    if item.bbox is None:
        return (0.0, 0.0, float(size[0]), float(size[1])), None
    factors = (*size, *size) if item.is_relative else (1, 1, 1, 1)
    x, y, width, height = (a * b for a, b in zip(item.bbox, factors, strict=True))
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, size[0]), min(y + height, size[1])
    message = f"{item.label} box {x:.1f},{y:.1f} {width:.1f}x{height:.1f}"
    if width <= 0 or height <= 0:
        raise ValueError(f"{message} is empty")
    if right <= left or bottom <= top:
        raise ValueError(f"{message} is outside the picture of {size[0]}x{size[1]}")
    beyond = max(left - x, top - y, x + width - right, y + height - bottom)
    sticks = f"{message} sticks out of {size[0]}x{size[1]}; cut" if beyond > MARGIN_PX else None
    return (left, top, right - left, bottom - top), sticks
