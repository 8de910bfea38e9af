"""`edge-tools data check`: reports each fault of a data set as one line; exit code 1 if any.

Faults are sets without a picture, unreadable or missing pictures, sizes that differ from the
file's, broken annotations, boxes outside the picture or empty, classes without objects,
near-duplicate pictures, and near-duplicates in two splits.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import lookup
from edge.errors import EXIT_FAILURE, EXIT_OK
from tools import dataset, json_file, parallel
from tools.data import fingerprint, folder
from tools.data.entry import Labelled, clipped_to_picture, region
from tools.data.fingerprint import Fingerprint
from tools.dataset import Dataset, Picture

EXAMPLES = """\
examples:
  edge-tools data check data/street                    # annotations.json, or train/val/test.json
  edge-tools data check train.json val.json --images pictures --report faults.json
  edge-tools data check data/street --allow duplicate  # report them, but do not fail
"""
KINDS = ("empty", "broken", "size", "box", "empty-class", "duplicate", "leak")
SHOWN = 20  # lines of each kind on the terminal; --report has all


@dataclass(frozen=True)
class Fault:
    """A fault. kind: one of KINDS. paths: of near-duplicates, all pictures of the group."""

    kind: str
    text: str
    paths: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    folder.add_arguments(parser)
    parser.add_argument(
        "--allow",
        nargs="+",
        action="extend",
        choices=KINDS,
        default=[],
        metavar="KIND",
        help="kinds that are reported but do not fail: " + ", ".join(KINDS),
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="all faults as JSON")
    parallel.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the faults and their number by kind; return 1 if any of a kind not in --allow."""
    sets = folder.read_all(args.data, args.images, is_checked=False)
    _warn_of_splits(args.data)
    faults = find_faults(sets, args.workers, args.dask)
    counts = Counter(fault.kind for fault in faults)
    for kind in KINDS:
        lines = [fault.text for fault in faults if fault.kind == kind]
        for text in lines[:SHOWN]:
            print(" ".join(f"{kind}: {text}".splitlines()))
        if len(lines) > SHOWN:
            print(f"{kind}: {len(lines) - SHOWN} more; --report FILE has all")
    pictures = sum(len(data.pictures) for data in sets)
    print(f"{pictures} pictures: " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    if args.report:
        json_file.write([vars(fault) for fault in faults], args.report, indent=1)
    return EXIT_FAILURE if set(counts) - set(args.allow) else EXIT_OK


def _warn_of_splits(data: list[Path]) -> None:
    for path in data:
        stale = folder.stale_splits(path)
        if stale:
            fault = f"{path}: {stale} differ from {folder.ALL}.json"
            print(f"{fault}; {folder.split_again(path)}", file=sys.stderr)


def find_faults(sets: list[Dataset], workers: int, dask: str | None) -> list[Fault]:
    """Return all faults of the sets; several sets are taken as the splits of one data set."""
    taken, faults = fingerprints([p for data in sets for p in data.pictures], workers, dask)
    for data in sets:
        if not data.pictures:
            faults.append(Fault("empty", f"{data.name}: no picture in it"))
        faults += _size_faults(data, taken)
        faults += _box_faults(data)
        faults += _class_faults(data)
    return faults + list(_duplicates(sets, taken))


def fingerprints(
    pictures: list[Picture], workers: int, dask: str | None
) -> tuple[dict[Path, Fingerprint], list[Fault]]:
    """Return the fingerprint of each file by path, and a fault for each unreadable one."""
    paths = sorted({lookup.real(picture.path) for picture in pictures})
    taken: dict[Path, Fingerprint] = {}
    faults = {}
    for done in parallel.run_tasks(
        fingerprint.take, paths, workers=workers, dask=dask, title="read"
    ):
        if done.result is None:
            faults[done.index] = Fault("broken", done.reason)
        else:
            taken[done.item] = done.result
    return taken, [faults[index] for index in sorted(faults)]


def _size_faults(data: Dataset, taken: dict[Path, Fingerprint]) -> Iterator[Fault]:
    for picture in data.pictures:
        found = taken.get(lookup.real(picture.path))
        if found and found.size != (picture.width, picture.height):
            is_size = f"is {found.size[0]}x{found.size[1]}"
            claim = f"{picture.width}x{picture.height}"
            yield Fault("size", f"{picture.path}: {is_size}, {data.name} says {claim}")


def _box_faults(data: Dataset) -> Iterator[Fault]:
    known = {picture.image_id: picture for picture in data.pictures}
    for place, item in enumerate(data.annotations):
        complaint = _annotation_fault(item, known, data.labels)
        if complaint:
            yield Fault("box", f"{data.name}: annotation {dataset.id_of(item, place)}: {complaint}")


def _annotation_fault(item: Any, known: dict[int, Picture], labels: dict[int, str]) -> str | None:
    """Return what is wrong with an annotation, None if nothing is. known: pictures by id."""
    try:
        found = dataset.checked(item, labels)
    except ValueError as error:
        return str(error)
    picture = known.get(found["image_id"])
    if picture is None:
        return f"no image with id {found['image_id']}"
    box = Labelled(labels[found["category_id"]], region(found["bbox"]))
    try:
        complaint = clipped_to_picture(box, (picture.width, picture.height))[1]
    except ValueError as error:
        complaint = str(error)
    return f"{picture.path.name}: {complaint.removesuffix('; cut')}" if complaint else None


def _class_faults(data: Dataset) -> Iterator[Fault]:
    found = (item.get("category_id") for item in data.annotations if isinstance(item, dict))
    counts = Counter(map(str, found))
    with_objects = {label for number, label in data.labels.items() if counts[str(number)]}
    for label in dict.fromkeys(data.labels.values()):
        if label not in with_objects:
            yield Fault("empty-class", f"{data.name}: class {label!r} has no object")


def _duplicates(sets: list[Dataset], taken: dict[Path, Fingerprint]) -> Iterator[Fault]:
    """Yield a fault for each group of near-duplicates within a set and for each across sets."""
    listed = [(side, p.path) for side, data in enumerate(sets) for p in data.pictures]
    listed = [item for item in listed if lookup.real(item[1]) in taken]
    for members in fingerprint.groups([taken[lookup.real(path)] for _, path in listed]):
        by_side: dict[int, list[Path]] = defaultdict(list)
        for side, path in (listed[index] for index in members):
            by_side[side].append(path)
        for side, paths in by_side.items():
            if len(paths) > 1:
                yield _duplicate_fault("duplicate", paths, sets[side].name)
        if len(by_side) > 1:
            first = [paths[0] for paths in by_side.values()]  # the message names one of each set
            others = [path for paths in by_side.values() for path in paths[1:]]
            names = " and ".join(sets[side].name for side in by_side)
            yield _duplicate_fault("leak", first + others, names)


def _duplicate_fault(kind: str, paths: list[Path], where: str) -> Fault:
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    text = f"{paths[0]} shows the same as {paths[1]}{more} ({where})"
    return Fault(kind, text, tuple(map(str, paths)))
