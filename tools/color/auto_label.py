"""Label colors without a person: `edge-tools label color DATASET`.

GrabCut cuts each object's mask from its box, its pixels are clustered in CIELAB, and the color
model names the dominant color (`tools.color.pixels.proposal`). The output is a label file as
`edge-tools annotate color` writes it, with the machine as labeller 1; a run that was stopped
continues where it stopped. Where people have labelled the same objects, the agreement with them is
printed: read kappa and confusion before you train on such labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge import manifest
from edge.config import ColorConfig
from edge.errors import InputError, one_line
from edge.model_store import find
from tools import json_file, parallel
from tools.annotate.view import view_of
from tools.arguments import count
from tools.color.agreement import Pair, by_group, confusion, human_answer
from tools.color.data.label_file import LabelFile, opened
from tools.color.data.labels import LABELS
from tools.color.data.objects import Key, LabelObject, Row, labels_path, read_objects
from tools.color.pixels import masks
from tools.color.pixels.proposal import Proposer
from tools.parallel import Done, once_per_thread, run_tasks

EXAMPLES = """\
examples:
  edge-tools label color pictures/
  edge-tools label color train.json --workers 4 --dask tcp://server:8786
  edge-tools label color ../shared/data/scene_color --split val \\
      --images ../shared/data/detection/val --output runs/val.json    # agreement with people
"""
DEFAULT_MODEL = ColorConfig().model
SAVE_EVERY_S = 5.0  # the most work that a kill loses


@dataclass(frozen=True)
class Task:
    """One object, and the model that names its colors: its folder, and `author_of` it."""

    item: LabelObject
    model: Path
    author: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "dataset",
        type=Path,
        help="folder of pictures or of `data import`, COCO JSON, or labelled rows",
    )
    parser.add_argument("--images", type=Path, help="where the JSON's pictures are")
    parser.add_argument("--split", help="only this split, where the rows have splits")
    parser.add_argument("--output", type=Path, help="default: auto-… beside the pictures")
    parser.add_argument("--human", type=Path, help="people's labels; default: those of annotate")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="color model, by name or folder; default: %(default)s",
    )
    parallel.add_arguments(parser)
    parser.add_argument("--limit", type=count, help="only the first so many objects")
    parser.add_argument("--json", type=Path, help="also write the agreement here")
    parser.add_argument("--plot", type=Path, help="also draw the confusion with people (PNG)")


def run(args: argparse.Namespace) -> int:
    """Label every object that has no label of this model yet, and print the agreement.

    Raises InputError for a data set that cannot be read, ModelError for a model that cannot name
    colors, EdgeError for an output that cannot be written.
    """
    objects = read_objects(args.dataset, args.images, args.split)[: args.limit]
    model = find(args.model).resolve()
    Proposer(model)  # a broken model is told once, not for each object
    with opened(args.output or automatic_path(args.dataset), "--output") as labels:
        return _label(args, objects, model, labels)


def _label(
    args: argparse.Namespace, objects: Sequence[LabelObject], model: Path, labels: LabelFile
) -> int:
    """Label what is left and print the agreement; return the exit code.

    Raises InputError when the agreement is to be written and nobody's labels are known.
    """
    author = author_of(model)
    known = [labels.get(one.key) for one in objects]
    left = [one for one, row in zip(objects, known, strict=True) if _by(row) != author]
    tasks = [Task(one, model, author) for one in left]
    done = run_tasks(label_one, tasks, workers=args.workers, dask=args.dask, title="labelling")
    with closing(done):
        failures = _collect(done, labels, author, [one.key for one in objects])
    for line in failures:
        print(one_line(line))
    print(f"{labels.path}: {len(left) - len(failures)} labelled now, {len(labels.rows)} in all")
    human = LabelFile(args.human or labels_path(args.dataset))
    pairs = compared(objects, labels, human)
    if pairs:
        _report(pairs, people(objects, human), args)
    elif args.json or args.plot:
        fix = "name a file with --human, or leave out --json and --plot"
        raise InputError(f"{human.path}: no label of a person to compare with; {fix}")
    return InputError.exit_code if failures else 0


def automatic_path(source: Path) -> Path:
    """Return the file for a machine's labels of a data set, beside the one for people's."""
    by_hand = labels_path(source)
    return by_hand.with_name(f"auto-{by_hand.name}")


def author_of(model: Path) -> str:
    """Return what `by_1` is for a model's labels; ModelError when the folder is no model.

    With the file's hash: a model made anew may have the same version.
    """
    found = manifest.read(model)
    return f"grabcut + {found.name} {found.version} {found.sha256[:8]}"


def label_one(task: Task) -> Row:
    """Return the labelled row of an object; InputError when its picture cannot be read."""
    proposer = _proposer(task.model, task.author)
    view = view_of(task.item)
    box_px = view.object_px
    cut = masks.from_box(view.bgr, box_px)
    proposal = proposer.propose(view.bgr, box_px, cut.mask, task.item.cls)
    outlines = [view.in_picture(one) for one in masks.outlines(cut.mask)]
    return task.item.row() | {
        "label_1": proposal.label,
        "colors_1": proposal.colors,
        "sure_1": proposal.is_sure and not cut.is_guess,
        "outline_1": outlines,
        "shares_1": {one.name: round(one.score, 3) for one in proposal.shares},
    }


@once_per_thread
def _proposer(model: Path, _author: str) -> Proposer:
    return Proposer(model)


def _by(row: Row | None) -> str | None:
    return None if row is None else row.get("by_1")


def _collect(
    done: Iterable[Done[Task, Row]], labels: LabelFile, author: str, order: Sequence[Key]
) -> list[str]:
    """Store each row as it arrives, saving every few seconds; return a line for each failure.

    order: of the rows in the file at the end, and of the lines, however workers finish.
    """
    failures = []
    saved_s = time.monotonic()
    try:
        for one in done:
            if one.error is not None or one.result is None:
                failures.append((one.index, f"{one.item.item.image}: {one.reason}"))
                continue
            labels.rows[one.item.item.key] = one.result | {"by_1": author}
            if time.monotonic() - saved_s > SAVE_EVERY_S:
                labels.save()
                saved_s = time.monotonic()
    finally:
        rows = labels.rows
        labels.rows = {key: rows[key] for key in (*order, *rows) if key in rows}
        labels.save()
    return [line for _, line in sorted(failures)]


def compared(objects: Sequence[LabelObject], machine: LabelFile, human: LabelFile) -> list[Pair]:
    """Return people's and the machine's labels of the objects that have both."""
    pairs = []
    for one in objects:
        row = machine.get(one.key)
        answer = human_answer(one.human | (human.get(one.key) or {}))
        if row is None or answer is None:
            continue
        label, is_sure = answer
        if label in LABELS:
            pairs.append(Pair(label, row["label_1"], (is_sure, row["sure_1"])))
    return pairs


def people(objects: Sequence[LabelObject], human: LabelFile) -> list[Pair]:
    """Return the labels of the two people for the objects that both labelled."""
    rows = [one.human | (human.get(one.key) or {}) for one in objects]
    return [
        Pair(
            row["label_1"],
            row["label_2"],
            (bool(row.get("sure_1", True)), bool(row.get("sure_2", True))),
        )
        for row in rows
        if row.get("label_1") in LABELS and row.get("label_2") in LABELS
    ]


def _report(pairs: Sequence[Pair], between: Sequence[Pair], args: argparse.Namespace) -> None:
    groups = by_group(pairs)
    title = "Agreement with people where they agree"
    table = Table("objects", "number", "same answer", "kappa", title=title)
    rows = list(groups.items())
    if between:
        rows.append(("two people", by_group(between)["all"]))
    for name, one in rows:
        kappa = "-" if one.kappa is None else f"{one.kappa:.3f}"
        table.add_row(name, str(one.objects), f"{one.share:.3f}", kappa)
    console = Console()
    console.print(table)
    counts = confusion(pairs)
    console.print(_confusion_table(counts.tolist()))
    if args.plot:
        from tools import plots

        axes = ("people", "machine")
        plots.confusion_matrix(counts, LABELS, args.plot, title="Color labels", axes=axes)
    if args.json:
        document = {name: asdict(one) for name, one in rows} | {"confusion": counts.tolist()}
        json_file.write(document, args.json)


def _confusion_table(counts: Sequence[Sequence[int]]) -> Table:
    table = Table(
        "people", *(name[:4] for name in LABELS), title="Machine", box=None, padding=(0, 1, 0, 0)
    )
    for name, row in zip(LABELS, counts, strict=True):
        table.add_row(name, *(str(count) if count else "·" for count in row))
    return table
