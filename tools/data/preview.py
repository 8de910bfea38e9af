"""`edge-tools data preview`: a contact sheet of a data set with its boxes."""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from edge.errors import EXIT_FAILURE, EXIT_OK, InputError, one_line
from tools import contact_sheet, dataset
from tools.arguments import count, option
from tools.contact_sheet import PALETTE, Tile, TileBox
from tools.data import folder
from tools.dataset import Dataset, Picture

EXAMPLES = """\
examples:
  edge-tools data preview data/street --output preview.jpg
  edge-tools data preview data/street/val.json --count 60 --classes bird cat --output rare.jpg
"""
Chosen = tuple[Picture, list[dict[str, Any]]]  # a picture with its annotations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    folder.add_arguments(parser)
    option(parser, "--output", Path, Path("preview.jpg"), "file to write", metavar="JPEG")
    option(parser, "--count", count, 24, "pictures", metavar="N")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="only pictures with these")
    option(parser, "--columns", count, 6, "tiles in a row", metavar="N")
    option(parser, "--seed", int, 0, "choose other pictures", metavar="N")


def run(args: argparse.Namespace) -> int:
    """Write the sheet; return 1 when a chosen picture could not be read."""
    tiles, failures = [], 0
    sets = folder.read_all(args.data, args.images)
    for data, (picture, objects) in _in_turns(sets, args):
        try:
            tiles.append(_tile(picture, objects, data))
        except InputError as error:
            print(one_line(error), file=sys.stderr)
            failures += 1
    if not tiles:
        raise InputError("no picture to show; are --classes the data set's, is it empty?")
    contact_sheet.write(tiles, args.output, columns=args.columns)
    print(f"{args.output}: {len(tiles)} pictures")
    return EXIT_FAILURE if failures else EXIT_OK


def _in_turns(
    sets: Sequence[Dataset], args: argparse.Namespace
) -> Iterator[tuple[Dataset, Chosen]]:
    """Yield chosen pictures of each set in turns, --count in all where there are as many."""
    chosen = [choose(data, args.count, args.classes, args.seed) for data in sets]
    turns = (pair for row in zip_longest(*chosen) for pair in zip(sets, row, strict=True))
    return islice(((data, one) for data, one in turns if one is not None), args.count)


def choose(data: Dataset, count: int, classes: list[str] | None, seed: int) -> list[Chosen]:
    """Return random pictures with their annotations, determined by the seed."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in data.annotations:
        found[item["image_id"]].append(item)
    wanted = set(classes or ())
    unknown = wanted - set(data.labels.values())
    if unknown:
        known = ", ".join(data.labels.values())
        raise InputError(f"no class {', '.join(sorted(unknown))} in {data.name}; it has {known}")
    suited = [
        picture
        for picture in data.pictures
        if not wanted
        or wanted & {data.labels[item["category_id"]] for item in found[picture.image_id]}
    ]
    chosen = random.Random(seed).sample(suited, min(count, len(suited)))
    return [(picture, found[picture.image_id]) for picture in chosen]


def _tile(picture: Picture, objects: list[dict[str, Any]], data: Dataset) -> Tile:
    numbers = sorted(data.labels)
    boxes = []
    for item in objects:
        x, y, width, height = item["bbox"]
        color = PALETTE[numbers.index(item["category_id"]) % len(PALETTE)]
        boxes.append(TileBox(x, y, width, height, data.labels[item["category_id"]], color))
    return Tile(dataset.load(picture), picture.path.name, tuple(boxes))
