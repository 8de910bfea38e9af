"""Pascal VOC XML: `Annotations/*.xml` with `JPEGImages/`, or XML files beside their pictures.

Coordinates count from 1 and both corners are inside. Objects marked difficult become
`ignore_regions`: neither objects nor background. Of several pictures of one name a file's is the
one in the same folder, as `Annotations/a/1.xml` and `JPEGImages/a/1.jpg`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from edge.errors import InputError
from tools.data.entry import Entry, Labelled, Listing, Region, number, pictures_below, safe_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # the type only; parsing is defusedxml's

USUAL_FOLDERS = frozenset({"Annotations", "JPEGImages", "annotations", "images"})
Place = tuple[str, ...]  # the names of the folders in which files of one name are told apart


def read(source: Path, images: Path | None) -> Listing:
    """Return the pictures that have an XML file; classes are sorted.

    images: where the pictures are; default: `JPEGImages` or `images` in the folder, else itself.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; VOC is a folder with XML files")
    files = sorted(source.rglob("[!.]*.xml"))
    if not files:
        raise InputError(f"{source}: no XML file in it; is the format voc?")
    root = images or next(
        (source / name for name in ("JPEGImages", "images") if (source / name).is_dir()), source
    )
    pictures = {path.relative_to(root).as_posix(): path for path in pictures_below(root)}
    listing = Listing()
    _add_entries(
        listing, {file: _place(file.relative_to(source)) for file in files}, root, pictures
    )
    listing.problems += _unlabelled(pictures, listing)
    for name in sorted({item.label for entry in listing.entries for item in entry.objects}):
        listing.add_class(name)
    return listing


def _add_entries(
    listing: Listing, files: Mapping[Path, Place], root: Path, pictures: Mapping[str, Path]
) -> None:
    """Add the picture of each file; pictures: by their names below `root`."""
    by_name: dict[str, dict[Place, Path]] = defaultdict(dict)
    for name, path in pictures.items():
        for key in (path.stem, path.name):  # ImageNet's files name their pictures without a suffix
            by_name[key][_place(PurePath(name))] = path
    elsewhere: list[tuple[Path, Entry]] = []  # last: another file may lie beside the picture
    for file, place in files.items():
        try:
            entry, is_here = _entry(file, place, root, by_name)
        except ValueError as error:
            listing.problems.append(f"{file}: {error}")
        else:
            listing.entries.append(entry) if is_here else elsewhere.append((file, entry))
    taken = {entry.path for entry in listing.entries}
    for file, entry in elsewhere:
        if entry.path in taken:
            listing.problems.append(
                f"{file}: its picture is missing; {entry.path} has its own file"
            )
        else:
            listing.entries.append(entry)


def _unlabelled(pictures: dict[str, Path], listing: Listing) -> list[str]:
    labelled = {entry.name for entry in listing.entries}
    return [
        f"{path}: no XML file for it; left out"
        for name, path in pictures.items()
        if name not in labelled
    ]


def _place(path: PurePath) -> Place:
    """Return the folders that a file lies in, but for those that every VOC set has."""
    return tuple(part for part in path.parent.parts if part not in USUAL_FOLDERS)


def _entry(
    file: Path, place: Place, root: Path, pictures: Mapping[str, Mapping[Place, Path]]
) -> tuple[Entry, bool]:
    """Return one file's picture, and whether it lies at the file's own place.

    pictures: by name and place. ValueError says what is wrong with the file.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        tree = parse(file).getroot()
    except (SyntaxError, DefusedXmlException, OSError) as error:
        raise ValueError(f"not XML ({' '.join(str(error).split())})") from None
    name = Path(safe_name(_text(tree, "filename"))).name
    if name not in pictures:
        raise ValueError(f"its picture {name} is not in {root}")
    if place not in pictures[name] and len(pictures[name]) > 1:
        count = len(pictures[name])
        raise ValueError(f"{count} pictures are named {name}, none in this folder; move it there")
    path = pictures[name].get(place) or next(iter(pictures[name].values()))
    certain, difficult = [], []
    for item in tree.iter("object"):
        label, box = _text(item, "name"), _box(item)
        if (item.findtext("difficult") or "0").strip() == "1":
            difficult.append(box)
        else:
            certain.append(Labelled(label, box))
    entry = Entry(
        path,
        path.relative_to(root).as_posix(),
        tuple(certain),
        source=(tree.findtext("source/database") or "").strip(),
        size=_size(tree),
        ignore_regions=tuple(difficult),
    )
    return entry, place in pictures[name]


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"<{element.tag}> has no <{tag}>")
    return text


def _box(item: Element) -> Region:
    corners = item.find("bndbox")
    if corners is None:
        raise ValueError("<object> has no <bndbox>")
    left, top, right, bottom = (
        number(_text(corners, tag)) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    return (left - 1, top - 1, right - left + 1, bottom - top + 1)


def _size(tree: Element) -> tuple[int, int] | None:
    """Return (width, height) according to the file; None if missing, or 0 as some tools write."""
    width, height = tree.findtext("size/width"), tree.findtext("size/height")
    size = (round(number(width or 0)), round(number(height or 0)))
    return size if all(size) else None
