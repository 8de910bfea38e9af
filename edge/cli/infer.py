"""`edge infer`: detection or color on images, folders and videos, as one JSON document."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import msgspec

from edge import lookup, model_store
from edge.cli.album import Album
from edge.cli.pictures import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Picture,
    expand,
    pictures,
    text_of,
)
from edge.cli.progress import bar
from edge.color import ColorModel
from edge.config import ColorConfig, DetectorConfig
from edge.detector import Detector
from edge.errors import (
    EXIT_FAILURE,
    EXIT_NO_INPUT,
    EXIT_OK,
    CameraError,
    EdgeError,
    InputError,
    UsageError,
    brief,
    one_line,
)
from edge.interpreter import Interpreter
from edge.pipeline import crop
from edge.swatch import lab_of
from edge.values import ColorScore, Detection, Image

logger = logging.getLogger(__name__)

EXAMPLES = """examples:
  edge infer photo.jpg
  edge infer photos/ clip.mp4 --output found.json --annotate drawn/
  edge infer photos/ --recursive        # and the folders in it
  edge infer crops/ --task color        # every image is one object
  edge infer crops/ --task color --objects classes.json   # {"a.jpg": "dog", "b.jpg": "car"}

output: [{"file", "width", "height", "detections": [{"label", "score", "box_px": [x, y, w, h],
"colors": [{"name", "score", "rgb", "lab"}]}]}]; a video has one entry a frame, with its number as
"frame". With --task color an entry has instead "colors", all 11 terms, best first, and "dominant",
the best one's name or, where its score is too low, "unknown". rgb and lab: how the pixels of that
color look; small shares have none. A folder gives its own images and videos; those of folders in it
with --recursive; never hidden ones. An animated picture counts as its first one."""

MIN_FURTHER_COLOR = ColorConfig().min_score

EntryMaker = Callable[[Picture], dict[str, Any]]  # returns a picture's entry in the document
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT")
    parser.add_argument(
        "--recursive", action="store_true", help="read the folders in folders, too, but not links"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="default: standard output")
    parser.add_argument("--min-score", type=_score, default=0.25, metavar="S", help="default 0.25")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="save pictures with boxes")
    parser.add_argument(
        "--task", choices=("detect", "color"), default="detect", help="default detect"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="detector, or color model with --task color; a name of `edge models` or a folder; "
        f"default {DetectorConfig().model}, {ColorConfig().model}",
    )
    parser.add_argument(
        "--objects",
        type=Path,
        metavar="FILE.json",
        help="with --task color: what images show, {file name or path: label}; others have none",
    )
    parser.add_argument(
        "--color-model",
        default=ColorConfig().model,
        metavar="NAME",
        help="names detections' colors; default %(default)s",
    )
    parser.add_argument("--no-color", action="store_true", help="do not name detections' colors")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        choices=range(1, 17),
        metavar="N",
        help="pictures at a time; default 1",
    )
    parser.add_argument("--models-dir", metavar="DIR", help="look for models here first")


def run(args: argparse.Namespace) -> int:
    """Write the document; after a failure, Ctrl-C or SIGTERM, with the results so far.

    Returns 66 when an input could not be read; all others are still processed. Returns 1 when a
    picture could not be saved: no further picture is saved, but the document is complete.
    """
    if args.objects and args.task != "color":
        raise UsageError("--objects needs --task color")
    _end_like_ctrl_c()
    if args.output:
        _check_writable(args.output)
    paths, unreadable = expand(args.inputs, is_recursive=args.recursive, drawn=args.annotate)
    errors: list[EdgeError] = [*unreadable]
    make_entry = _color_task(args, paths) if args.task == "color" else _detect_task(args)
    album = Album(args.annotate, paths) if args.annotate else None
    entries: list[str] = []  # as JSON, to save memory: a long video has a hundred thousand

    def keep(picture: Picture, entry: dict[str, Any]) -> None:
        entries.append(json.dumps(entry))
        if album:
            album.add(picture, entry)

    try:
        _process(_readable(paths, errors), make_entry, args.threads, keep)
    except KeyboardInterrupt:
        errors.append(EdgeError("stopped; the document has what was found so far"))
        raise
    finally:
        fault = album.fault if album else None
        try:
            _write(entries, args.output)
        finally:  # last: a closed terminal takes no more lines
            _tell([*errors, fault] if fault else errors)
    if fault:
        return EXIT_FAILURE
    return EXIT_NO_INPUT if errors else EXIT_OK


def _readable(paths: list[Path], errors: list[EdgeError]) -> Iterator[Picture]:
    """Yield the pictures of files; what cannot be read is added to `errors`."""
    for path in bar(paths, len(paths), "files"):
        try:
            yield from pictures(path)
        except (InputError, CameraError) as error:
            errors.append(error)


def _process(
    found: Iterable[Picture],
    make_entry: EntryMaker,
    threads: int,
    keep: Callable[[Picture, dict[str, Any]], None],
) -> None:
    """Give `keep` the pictures, in order, with their entries, made while the next ones are read.

    After an exception `keep` still gets what was read before.
    """
    waiting: deque[tuple[Picture, Future[dict[str, Any]]]] = deque()

    def finish(count: int) -> None:
        while len(waiting) > count:
            wait([waiting[0][1]])  # Ctrl-C comes here: nothing is lost
            picture, entry = waiting.popleft()
            keep(picture, entry.result())

    with ThreadPoolExecutor(threads) as pool:
        try:
            for picture in found:
                waiting.append((picture, pool.submit(make_entry, picture)))
                finish(threads)
        finally:
            finish(0)


class Copies(Generic[T]):
    """Copies of a model, each of which serves one thread at a time."""

    def __init__(self, load: Callable[[], T], count: int) -> None:
        self._idle: SimpleQueue[T] = SimpleQueue()
        for _ in range(count):
            self._idle.put(load())

    @contextlib.contextmanager
    def one(self) -> Iterator[T]:
        """Take a copy out, and put it back."""
        copy = self._idle.get()
        try:
            yield copy
        finally:
            self._idle.put(copy)


def _tell(failures: list[EdgeError]) -> None:
    for failure in failures:
        print(f"edge: {one_line(failure)}", file=sys.stderr)


def _end_like_ctrl_c() -> None:
    """Let a time limit, `kill` and a closed terminal act like Ctrl-C, which keeps the results.

    Only the first signal counts: `timeout` and shells send two, and the second would come while the
    results are written.
    """
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup leaves it
    ]

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a score; give one above 0, at most 1")
    return value


def _detect_task(args: argparse.Namespace) -> EntryMaker:
    """Return the function that finds a picture's objects, and their colors unless disabled."""
    folder = model_store.find(args.model or DetectorConfig().model, args.models_dir)

    def load() -> tuple[Detector, ColorModel | None]:
        detector = Detector(Interpreter.load(folder), min_score=args.min_score)
        return detector, None if args.no_color else _color_model(args, args.color_model)

    copies = Copies(load, args.threads)

    def make_entry(picture: Picture) -> dict[str, Any]:
        with copies.one() as (detector, color):
            detections = detector.detect(picture.bgr)
            found = [_detection_entry(item, picture.bgr, color) for item in detections]
        return {**picture.head(), "detections": found}

    return make_entry


def _color_task(args: argparse.Namespace, paths: list[Path]) -> EntryMaker:
    """Return the function that names the colors of a picture that shows one object."""
    labels = _object_labels(args.objects, paths) if args.objects else {}
    copies = Copies(lambda: _color_model(args, args.model or args.color_model), args.threads)
    with copies.one() as color:
        model = color.manifest
    known = model.input.classes
    if unknown := sorted({label for label in labels.values() if label} - {*known}):
        logger.warning(
            "infer.unknown_labels file=%s labels=%s; %s knows %s",
            args.objects,
            ", ".join(unknown),
            model.name,
            ", ".join(known) or "no labels",
        )

    def make_entry(picture: Picture) -> dict[str, Any]:
        path = picture.path
        label = labels.get(text_of(path), labels.get(text_of(path.name)))
        with copies.one() as color:
            scores = color.classify(picture.bgr, label)
            dominant = color.dominant(scores)
        return {**picture.head(), "dominant": dominant, "colors": _scores(scores)}

    return make_entry


def _object_labels(objects: Path, paths: list[Path]) -> dict[str, str | None]:
    """Return the labels by file name or path, read from a JSON file; null: not known.

    Entries that name none of `paths` are logged. Raises InputError for another JSON file.
    """
    try:
        labels = msgspec.json.decode(objects.read_bytes(), type=dict[str, str | None])
    except OSError as error:
        raise InputError(
            f"{objects}: {error.strerror}; name a readable file with --objects"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f'{objects}: not a JSON object of labels by file name ({{"a.jpg": "dog"}}): '
            f"{brief(error)}"
        ) from None
    names = {name for path in paths for name in (text_of(path), text_of(path.name))}
    strangers = labels.keys() - names
    if paths and strangers:
        logger.warning(
            "infer.unknown_files file=%s entries=%d of %d first=%s; pictures are named %s or %s",
            objects,
            len(strangers),
            len(labels),
            min(strangers),
            paths[0].name,
            paths[0],
        )
    return labels


def _color_model(args: argparse.Namespace, name: str) -> ColorModel:
    return ColorModel(Interpreter.load(model_store.find(name, args.models_dir)))


def _detection_entry(detection: Detection, bgr: Image, color: ColorModel | None) -> dict[str, Any]:
    colors: list[ColorScore] = []
    bgr_crop = crop(bgr, detection.box_px) if color else None
    if color and bgr_crop is not None:
        scores = color.classify(bgr_crop, detection.label)
        further = [score for score in scores[1:] if score.score >= MIN_FURTHER_COLOR]
        name = color.dominant(scores)
        rgb = scores[0].rgb if name == scores[0].name else None
        colors = [ColorScore(name, scores[0].score, rgb), *further]
    return {
        "label": detection.label,
        "score": round(detection.score, 5),
        "box_px": [round(value, 2) for value in detection.box_px],
        "colors": _scores(colors),
    }


def _scores(colors: list[ColorScore]) -> list[dict[str, Any]]:
    return [
        {"name": color.name, "score": round(color.score, 5)}
        | ({"rgb": color.rgb, "lab": lab_of(color.rgb)} if color.rgb else {})
        for color in colors
    ]


def _check_writable(output: Path) -> None:
    """Raise EdgeError, before hours of work, when the document cannot be saved there."""
    if reason := lookup.why_hidden(output):
        fault = reason
    elif output.is_dir():
        fault = "is a folder"
    elif output.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:  # `--output *.jpg`
        fault = "is named like a picture"
    elif not output.parent.is_dir():
        fault = "no such folder"
    elif not os.access(output if output.exists() else output.parent, os.W_OK):
        fault = "no permission to write it"
    else:
        return
    raise EdgeError(f"{output}: {fault}; name a file that can be written")


def _write(entries: list[str], output: Path | None) -> None:
    """Write the document; where that fails, to standard output, and raise EdgeError."""
    try:
        with output.open("w") if output else contextlib.nullcontext(sys.stdout) as file:
            file.write("[")
            for number, entry in enumerate(entries):
                file.write(f", {entry}" if number else entry)
            file.write("]\n")
            file.flush()
    except OSError as error:
        if output is None:
            raise
        where = "the results went to standard output"
        try:
            _write(entries, None)  # hours of work may be in it
        except OSError:
            where = "standard output does not take the results either, they are lost"
        raise EdgeError(f"{output}: {error.strerror}; {where}") from None
