"""`edge-tools data import`: imports COCO, VOC XML, YOLO text or class folders as a data set.

Stopped and started again, it resumes. Pictures are converted by a process pool, or by a Dask
cluster whose workers see the same paths.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from edge import lookup
from edge.errors import EXIT_FAILURE, EXIT_OK, EdgeError, InputError, one_line
from tools import parallel
from tools.arguments import count
from tools.data import folder
from tools.data.convert import Converted, NoRoomError, Task, clear_parts, convert
from tools.data.entry import Entry, Listing, clipped_to_picture
from tools.data.formats import READERS
from tools.data.journal import Journal

EXAMPLES = """\
examples:
  edge-tools data import instances.json --format coco --images pictures --output data/street
  edge-tools data import VOCdevkit/VOC2012 --format voc --max-side 640 --output data/voc \\
    --rename motorbike=motorcycle
  edge-tools data import own --format yolo --output data/own --workers 4
  edge-tools data import birds --format folders --output /nfs/birds --dask tcp://host:8786
"""
PROBLEMS_FILE = "problems.txt"  # all problems, in the output folder
SHOWN_PROBLEMS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_source(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="data set to write, created if missing; started again, the import resumes",
    )
    parser.add_argument(
        "--rename",
        type=_renaming,
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename a class; may be repeated; classes with one new name are merged",
    )
    parser.add_argument("--copy", action="store_true", help="copy pictures instead of hard-linking")
    parallel.add_arguments(parser)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare the source, its format, and the maximum size of pictures."""
    parser.add_argument("source", type=Path, help="the data set's folder; of COCO, its JSON file")
    parser.add_argument(
        "--format",
        choices=sorted(READERS),
        required=True,
        help="what the source is; the guide describes each",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the pictures are")
    parser.add_argument("--max-side", type=count, metavar="PX", help="scale larger pictures down")


def run(args: argparse.Namespace) -> int:
    """Import; return 1 if there was any problem."""
    listing = READERS[args.format](args.source, args.images)
    listing.rename(dict(args.rename))
    _drop_duplicate_names(listing)
    sizes = _convert_all(listing, args)
    content = make_document(listing, sizes, str(args.source))
    _report_problems(listing.problems, args.output / PROBLEMS_FILE)
    if not content["images"]:
        fix = "name the folder of its pictures with --images"
        raise InputError(f"{args.source}: no picture could be imported; {fix}")
    _tell_replaced(args.output / f"{folder.ALL}.json", str(args.source))
    folder.write(args.output / f"{folder.ALL}.json", content)
    print(
        f"{args.output}: {len(content['images'])} pictures, {len(content['annotations'])} objects, "
        f"{len(content['categories'])} classes; {len(listing.problems)} problems"
    )
    stale = folder.stale_splits(args.output)
    if stale:
        fault = f"{args.output}: {stale} are of the import before"
        print(f"{fault}; {folder.split_again(args.output)}", file=sys.stderr)
    return EXIT_FAILURE if listing.problems else EXIT_OK


def _tell_replaced(file: Path, source: str) -> None:
    """Print which other source's set the new one replaces: sets are not merged."""
    try:
        before = json.loads(file.read_bytes())["info"]["imported_from"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if before != source:
        print(
            f"{file.parent}: replaces the import of {before}; sets are not merged", file=sys.stderr
        )


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r}: give two names, motorbike=motorcycle")
    return old, new


def _report_problems(problems: list[str], file: Path) -> None:
    """Print the first problems, one line each, and write all of them into the file."""
    lines = [one_line(problem) for problem in problems]
    for line in lines[:SHOWN_PROBLEMS]:
        print(line, file=sys.stderr)
    if len(lines) > SHOWN_PROBLEMS:
        print(f"… and {len(lines) - SHOWN_PROBLEMS} more, see {file}", file=sys.stderr)
    file.unlink(missing_ok=True)
    if lines:
        file.write_text("\n".join(lines) + "\n")


def _drop_duplicate_names(listing: Listing) -> None:
    """Remove pictures with a name that an earlier one has, and note each as a problem."""
    seen: set[str] = set()
    kept = []
    for entry in listing.entries:
        if entry.name in seen:
            listing.problems.append(f"{entry.path}: the name {entry.name} is listed twice")
            continue
        seen.add(entry.name)
        kept.append(entry)
    listing.entries = kept


def tasks_of(listing: Listing, args: argparse.Namespace, output: Path) -> list[Task]:
    """Return one conversion task per picture."""
    images = lookup.real(output) / "images"
    return [
        Task(lookup.real(entry.path), images / entry.name, args.max_side, args.copy)
        for entry in listing.entries
    ]


def _convert_all(listing: Listing, args: argparse.Namespace) -> dict[str, Converted]:
    """Convert the pictures that are not done yet; return the sizes of all by name.

    Failures are added to the problems. Raises EdgeError on a full disk, where all further pictures
    would fail as well.
    """
    names = {
        task: entry.name
        for task, entry in zip(tasks_of(listing, args, args.output), listing.entries, strict=True)
    }
    journal = Journal(args.output)
    known = {task: found for task in names if (found := journal.find(task)) is not None}
    todo = [task for task in names if task not in known]
    if known:
        print(f"{len(known)} pictures are done, {len(todo)} to do", file=sys.stderr)
    journal.forget(todo)
    outcomes = parallel.run_tasks(
        convert, todo, workers=args.workers, dask=args.dask, title="import"
    )
    failed = []
    with closing(outcomes):
        for done in outcomes:
            if isinstance(done.error, NoRoomError):
                raise EdgeError(f"{done.error}; {len(known)} pictures are done")
            if done.result is None:
                failed.append((done.index, done.reason))
                continue
            journal.add(done.item, done.result)
            known[done.item] = done.result
    listing.problems += [reason for _, reason in sorted(failed)]
    clear_parts([task.target for task in todo])
    return {names[task]: found for task, found in known.items()}


def make_document(listing: Listing, sizes: dict[str, Converted], source: str) -> dict[str, Any]:
    """Return COCO JSON of the converted pictures; faulty boxes are added to the problems."""
    numbers = {name: number for number, name in enumerate(listing.classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for entry in sorted(listing.entries, key=lambda item: item.name):
        if entry.name not in sizes:
            continue
        converted = sizes[entry.name]
        if entry.size and entry.size != converted.source_size:
            width, height = converted.source_size
            claim = f"{entry.size[0]}x{entry.size[1]}"
            listing.problems.append(
                f"{entry.path}: is {width}x{height} as shown, its labels say {claim}; left out"
            )
            continue
        images.append(_image(entry, len(images) + 1, converted, listing))
        for item in _annotations(entry, converted, numbers, listing.problems):
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **item})
    task = folder.DETECTION if listing.has_boxes else folder.CLASSIFICATION
    return {
        "info": {"task": task, "imported_from": source},
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "images": images,
        "annotations": annotations,
    }


def _image(entry: Entry, number: int, done: Converted, listing: Listing) -> dict[str, Any]:
    width, height = done.size
    image: dict[str, Any] = {
        "id": number,
        "file_name": entry.name,
        "width": width,
        "height": height,
        "source": entry.source,
    }
    if entry.exhaustive_classes is not None and set(entry.exhaustive_classes) != set(
        listing.classes
    ):
        image["exhaustive_classes"] = list(entry.exhaustive_classes)
    if entry.ignore_regions:
        image["ignore_regions"] = [done.scaled(region) for region in entry.ignore_regions]
    return image


def _annotations(
    entry: Entry, done: Converted, numbers: dict[str, int], problems: list[str]
) -> list[dict[str, Any]]:
    found = []
    for item in entry.objects:
        try:
            box, complaint = clipped_to_picture(item, done.source_size)
        except ValueError as error:
            problems.append(f"{entry.path}: {error}; left out")
            continue
        if complaint:
            problems.append(f"{entry.path}: {complaint}")
        scaled = done.scaled(box)
        found.append(
            {
                "category_id": numbers[item.label],
                "bbox": scaled,
                "area": round(scaled[2] * scaled[3], 2),
                "iscrowd": int(item.is_crowd),
            }
        )
    return found
