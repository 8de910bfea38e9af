"""`edge infer`: detection or color on images, folders and videos, as one JSON document."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from edge import lookup
from edge.cli.album import Album
from edge.cli.progress import bar
from edge.errors import (
    EXIT_FAILURE,
    EXIT_NO_INPUT,
    EXIT_OK,
    CameraError,
    EdgeError,
    InputError,
    one_line,
)
from edge.inference import objects, options
from edge.inference.inputs import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Picture, expand, pictures
from edge.inference.objects import Labels, label_of
from edge.inference.tasks import EntryMaker

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

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="default: standard output")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="save pictures with boxes")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        choices=range(1, 17),
        metavar="N",
        help="pictures at a time; default: 1",
    )


def run(args: argparse.Namespace) -> int:
    """Write the document; after a failure, Ctrl-C or SIGTERM, with the results so far.

    Returns 66 when an input could not be read; all others are still processed. Returns 1 when a
    picture could not be saved: no further picture is saved, but the document is complete.
    """
    task = options.chosen(args)
    if args.output:
        _check_writable(args.output)
    paths, unreadable = expand(args.inputs, is_recursive=args.recursive, drawn=args.annotate)
    errors: list[EdgeError] = [*unreadable]
    labels = objects.read(args.objects, paths) if args.objects else {}
    copies = Copies(task.load, args.threads)
    if args.objects:
        objects.tell_unknown(args.objects, labels, task.model)
    album = Album(args.annotate, paths) if args.annotate else None
    entries: list[str] = []  # as JSON, to save memory: a long video has a hundred thousand

    def make_entry(picture: Picture) -> dict[str, Any]:
        with copies.one() as make:
            return make(picture)

    def keep(picture: Picture, entry: dict[str, Any]) -> None:
        entries.append(json.dumps(entry))
        if album:
            album.add(picture, entry)

    struck: list[int] = []
    try:
        with _signals_noted(struck):
            found = _readable(paths, labels, errors, lambda _: not struck)
            _process(found, make_entry, args.threads, keep)
    finally:
        if struck:
            errors.append(EdgeError("stopped; the document has what was found so far"))
        fault = album.fault if album else None
        try:
            _write(entries, args.output)
        finally:  # last: a closed terminal takes no more lines
            _tell([*errors, fault] if fault else errors)
    if struck or fault:
        return EXIT_FAILURE
    return EXIT_NO_INPUT if errors else EXIT_OK


def _readable(
    paths: list[Path], labels: Labels, errors: list[EdgeError], goes_on: Callable[[object], bool]
) -> Iterator[Picture]:
    """Yield the pictures of files while it `goes_on`; what cannot be read is added to `errors`."""
    for path in takewhile(goes_on, bar(paths, len(paths), "files")):
        try:
            found = pictures(path, label=label_of(path, labels), bar=bar)
            yield from takewhile(goes_on, found)
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


@contextlib.contextmanager
def _signals_noted(struck: list[int]) -> Iterator[None]:
    """Add the first Ctrl-C, SIGTERM or SIGHUP to `struck` and let it interrupt nothing.

    So a time limit, `kill` and a closed terminal keep the results, too. From then on SIGTERM and
    SIGHUP are ignored, since `timeout` and shells send two and the second would come while the
    results are written; a second Ctrl-C ends the process at once.
    """
    found = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {one: handler for one, handler in found.items() if handler is not signal.SIG_IGN}

    def note(number: int, _: object) -> None:
        struck.append(number)
        for one in before:
            signal.signal(one, signal.SIG_DFL if one == signal.SIGINT else signal.SIG_IGN)

    for one in before:
        signal.signal(one, note)
    try:
        yield
    finally:
        for one, handler in before.items():
            if not struck:
                signal.signal(one, handler)


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
        with contextlib.suppress(OSError):
            os.truncate(output, 0)  # nobody should take half a document for one
        where = "the results went to standard output"
        try:
            _write(entries, None)  # hours of work may be in it
        except OSError:
            where = "standard output does not take the results either, they are lost"
        raise EdgeError(f"{output}: {error.strerror}; {where}") from None
