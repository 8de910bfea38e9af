"""Pascal VOC XML: `Annotations/*.xml` with `JPEGImages/`, or XML files beside their pictures.

Coordinates count from 1 and both corners are inside. Objects marked difficult become
`ignore_regions`: neither objects nor background.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import InputError
from tools.data.entry import Entry, Labelled, Listing, Region, number, pictures_below, safe_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # the type only; parsing is defusedxml's


def read(source: Path, images: Path | None) -> Listing:
    """Return the pictures that have an XML file; classes are sorted.

    images: where the pictures are; default: `JPEGImages` or `images` in the folder, else itself.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; VOC is a folder with XML files")
    files = sorted(source.rglob("*.xml"))
    if not files:
        raise InputError(f"{source}: no XML file in it; is the format voc?")
    root = images or next(
        (source / name for name in ("JPEGImages", "images") if (source / name).is_dir()), source
    )
    pictures = {path.relative_to(root).as_posix(): path for path in pictures_below(root)}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in pictures.values():
        by_name[path.name].append(path)
    listing = Listing()
    for file in files:
        try:
            listing.entries.append(_entry(file, root, by_name))
        except ValueError as error:
            listing.problems.append(f"{file}: {error}")
    listing.problems += _unlabelled(pictures, listing)
    for name in sorted({item.label for entry in listing.entries for item in entry.objects}):
        listing.add_class(name)
    return listing


def _unlabelled(pictures: dict[str, Path], listing: Listing) -> list[str]:
    labelled = {entry.name for entry in listing.entries}
    return [
        f"{path}: no XML file for it; left out"
        for name, path in pictures.items()
        if name not in labelled
    ]


def _entry(file: Path, root: Path, pictures: Mapping[str, Sequence[Path]]) -> Entry:
    """Return one file's picture; ValueError says what is wrong with the file.

    pictures: those below `root`, by file name.
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
    path = _picture_of(file, pictures[name])
    certain, difficult = [], []
    for item in tree.iter("object"):
        label, box = _text(item, "name"), _box(item)
        if (item.findtext("difficult") or "0").strip() == "1":
            difficult.append(box)
        else:
            certain.append(Labelled(label, box))
    return Entry(
        path,
        path.relative_to(root).as_posix(),
        tuple(certain),
        source=(tree.findtext("source/database") or "").strip(),
        size=_size(tree),
        ignore_regions=tuple(difficult),
    )


def _picture_of(file: Path, called: Sequence[Path]) -> Path:
    """Return which of the pictures of one name is meant: that beside the file, or in a like folder.

    Raises ValueError when several may be.
    """
    beside = [path for path in called if path.parent == file.parent]
    alike = [path for path in called if path.parent.name == file.parent.name]
    for found in (called, beside, alike):
        if len(found) == 1:
            return found[0]
    raise ValueError(f"{called[0]} and {called[1]} have the name of its picture; rename them")


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
    """Return the claimed size; None where there is none, or zeros as some tools write."""
    width, height = tree.findtext("size/width"), tree.findtext("size/height")
    size = (round(number(width or 0)), round(number(height or 0)))
    return size if all(size) else None
