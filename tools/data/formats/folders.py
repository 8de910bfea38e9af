"""Class folders: `DATASET/<class>/*.jpg`. The whole picture is the object."""

from __future__ import annotations

from pathlib import Path

from edge.errors import InputError
from tools.data.entry import Entry, Labelled, Listing, pictures_below


def read(source: Path, images: Path | None) -> Listing:
    """Return the pictures of all class folders; classes are sorted.

    images: must be None. Raises InputError when there is no class folder.
    """
    if images is not None:
        raise InputError("--images: class folders hold their own pictures; leave it out")
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    if (source / "train").is_dir():
        raise InputError(f"{source}: is divided already; train on it, or import its folder train")
    listing = Listing(has_boxes=False)
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        if folder.name.startswith("."):
            continue
        listing.add_class(folder.name)
        paths = pictures_below(folder)
        if not paths:
            listing.problems.append(f"{folder}: class without a picture")
        for path in paths:
            name = path.relative_to(source).as_posix()
            whole = (Labelled(folder.name, None),)
            listing.entries.append(Entry(path, name, whole, source=source.name))
    if not listing.classes:
        raise InputError(f"{source}: no class folder in it; expected {source}/<class>/<picture>")
    return listing
