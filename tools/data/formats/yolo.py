"""YOLO text files: one line an object, `class x y width height`, centers, in shares of the picture.

Lines with more numbers are outlines, of which the bounding box is taken. The classes' names come
from a YAML file (`names:`) or `classes.txt`. `labels/…/a.txt` belongs to `images/…/a.jpg`, or the
text file lies beside its picture. A picture without a text file is left out: an empty one says that
nothing is in the picture.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from edge.errors import InputError
from tools.data.entry import Entry, Labelled, Listing, number, pictures_below


def read(source: Path, images: Path | None) -> Listing:
    """Return the pictures below a folder that have a label file.

    images: only those below this folder. Raises InputError when nothing names the classes.
    """
    root = images or source
    listing = Listing(classes=_names(source))
    for path in pictures_below(root):
        labels = _label_file(path)
        if labels is None:
            listing.problems.append(
                f"{path}: no label file; left out (an empty one says that nothing is in it)"
            )
            continue
        objects = _objects(labels, listing)
        name = path.relative_to(root).as_posix().removeprefix("images/")
        listing.entries.append(Entry(path, name, objects, source=source.name))
    return listing


def _names(source: Path) -> list[str]:
    """Return the classes' names in order of their numbers."""
    if (source / "classes.txt").is_file():
        lines = (source / "classes.txt").read_text().splitlines()
        return [line.strip() for line in lines if line.strip()]
    for path in sorted([*source.glob("*.yaml"), *source.glob("*.yml")]):
        try:
            document = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            raise InputError(f"{path}: not YAML; repair it") from None
        names = document.get("names") if isinstance(document, dict) else None
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names)]
        if isinstance(names, list):
            return [str(name) for name in names]
    raise InputError(f"{source}: no classes.txt and no YAML file with names: in it; add one")


def _label_file(path: Path) -> Path | None:
    """Return a picture's label file: beside it, or in `labels` in place of `images`."""
    candidates = [path.with_suffix(".txt")]
    parts = list(path.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
        candidates.insert(0, Path(*parts).with_suffix(".txt"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _objects(file: Path, listing: Listing) -> tuple[Labelled, ...]:
    found = []
    for count, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_labelled(line.split(), listing.classes))
        except ValueError as error:
            listing.problems.append(f"{file}:{count}: {error}")
    return tuple(found)


def _labelled(fields: list[str], classes: list[str]) -> Labelled:
    if len(fields) < 5 or (len(fields) > 5 and len(fields) % 2 == 0):
        raise ValueError(f"{len(fields)} fields; a line is class x y width height")
    if not fields[0].isdecimal() or int(fields[0]) >= len(classes):
        raise ValueError(f"class {fields[0]!r}; there are classes 0 to {len(classes) - 1}")
    values = [number(value) for value in fields[1:]]
    if len(values) > 4:
        xs, ys = values[::2], values[1::2]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    else:
        x, y, width, height = values
        box = (x - width / 2, y - height / 2, width, height)
    return Labelled(classes[int(fields[0])], box, is_relative=True)
