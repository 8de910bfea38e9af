"""COCO JSON: reads boxes, crowds and our additional fields; ignores outlines and key points."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from edge.errors import InputError
from tools import dataset
from tools.data import folder
from tools.data.entry import Entry, Labelled, Listing, region, safe_name

IN_SPLIT = "_annotations.coco.json"  # Roboflow's file, beside the pictures of each split


def read(source: Path, images: Path | None) -> Listing:
    """Return the pictures of a JSON file, or of all splits in a folder as Roboflow exports it.

    images: see `_read_file`; None for a folder, whose pictures lie beside each split's file.
    Raises InputError when a file is missing or not COCO JSON.
    """
    if not source.is_dir():
        return _read_file(source, images)
    if images is not None:
        raise InputError(f"--images {images}: only for a JSON file, but {source} is a folder")
    return _read_splits(source)


def _read_splits(source: Path) -> Listing:
    """Return the pictures of each split, below a folder of the split's name."""
    files = sorted(source.glob(f"*/{IN_SPLIT}"))
    if not files:
        raise InputError(f"{source}: a folder without */{IN_SPLIT}; name the JSON file")
    listing = Listing()
    for file in files:
        part = _read_file(file, file.parent)
        for name in part.classes:
            listing.add_class(name)
        listing.entries += [
            replace(entry, name=f"{file.parent.name}/{entry.name}") for entry in part.entries
        ]
        listing.problems += part.problems
    return listing


def _read_file(source: Path, images: Path | None) -> Listing:
    """Return the pictures of a JSON file.

    images: folder that its file names are relative to; default: see `folder.root_of`, or the file's
        own folder where the first picture is there.
    Raises InputError when the file is missing or not COCO JSON.
    """
    root = folder.root_of(source, images)
    data = dataset.read_unchecked(source, root)
    if images is None and root != source.parent and not _has_first(data):
        beside = dataset.read_unchecked(source, source.parent)
        if _has_first(beside):  # Label Studio's names: `images/a.jpg`
            root, data = source.parent, beside
    listing = Listing(classes=[data.labels[number] for number in sorted(data.labels)])
    objects = _objects(data, listing, source)
    for picture in data.pictures:
        try:
            name = safe_name(picture.path.relative_to(root).as_posix())
        except ValueError:
            listing.problems.append(f"{source}: file name {picture.path} leads out of {root}")
            continue
        listing.entries.append(_entry(picture, name, objects.pop(picture.image_id, [])))
    listing.problems += [
        f"{source}: {len(found)} boxes of image id {number}, which is not among its images"
        for number, found in objects.items()
    ]
    return listing


def _has_first(data: dataset.Dataset) -> bool:
    """Return whether the file of the set's first picture is there."""
    return any(_slashed(picture.path).exists() for picture in data.pictures[:1])


def _slashed(path: Path) -> Path:
    """Return the path; with slashes if Windows wrote it and only that file exists."""
    other = Path(str(path).replace("\\", "/"))
    return other if other.exists() and not path.exists() else path


def _entry(picture: dataset.Picture, name: str, objects: list[Labelled]) -> Entry:
    return Entry(
        path=_slashed(picture.path),
        name=name,
        objects=tuple(objects),
        source=picture.source,
        size=(picture.width, picture.height),
        exhaustive_classes=tuple(sorted(picture.exhaustive_classes)),
        ignore_regions=picture.ignore_regions,
    )


def _objects(data: dataset.Dataset, listing: Listing, source: Path) -> dict[int, list[Labelled]]:
    """Return the objects by image id; a broken annotation becomes a line in `problems`."""
    found: dict[int, list[Labelled]] = defaultdict(list)
    for place, item in enumerate(data.annotations):
        try:
            known = dataset.checked(item, data.labels)
        except ValueError as error:
            name = dataset.id_of(item, place)
            listing.problems.append(f"{source}: annotation {name}: {error}")
            continue
        label = data.labels[known["category_id"]]
        labelled = Labelled(label, region(known["bbox"]), is_crowd=bool(known.get("iscrowd", 0)))
        found[known["image_id"]].append(labelled)
    return found
