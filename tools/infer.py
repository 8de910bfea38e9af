"""`edge-tools infer`: what `edge infer` finds, in any number of files, by all cores or a cluster.

One JSON line for each picture and each frame of a video. Stopped and started again, it resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edge import lookup, manifest
from edge.errors import EXIT_FAILURE, EXIT_OK, CameraError, InputError, ModelError, one_line
from edge.inference import objects, options
from edge.inference.inputs import expand, pictures, text_of
from edge.inference.objects import Labels, label_of
from edge.inference.tasks import DetectTask, EntryMaker, Task
from tools import infer_output, parallel
from tools.infer_output import Output, Settings
from tools.parallel import Done, once_per_thread

EXAMPLES = """\
examples:
  edge-tools infer photos/ --output found.jsonl                   # again: does what is missing
  edge-tools infer photos/ clips/ --recursive --min-score 0.4 --no-color --output found.jsonl
  edge-tools infer crops/ --task color --objects classes.json --output colors.jsonl --workers 4
  edge-tools infer /nfs/photos --output /nfs/found.jsonl --dask tcp://host:8786

output: for each picture, and each frame of a video, one line with the entry that `edge infer`
writes (see its --help). The lines of a file stand together; files are in the order in which they
were done. A video is done by one worker, and has its lines when all its frames are done.

A file is done when the output has its name. What was stopped or killed resumes when the same
command is given again; a file that could not be read has no lines and is tried again. More inputs,
and --objects with more of them, may be given then, but other options and models are refused:
FILE.jsonl.settings has those of the output. To begin anew, remove the output.

exit codes: 0 the output has all files; 1 stopped, or the output cannot be written; 2 wrong usage,
or other settings than the output's; 66 some files cannot be read, the others are done; 69 some
killed their worker, the others are done, or Dask's scheduler or workers are away; 78 wrong model"""


@dataclass(frozen=True, slots=True)
class File:
    """A file to do. path: absolute, as a Dask worker runs in another folder; name: as given."""

    path: Path
    name: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file is not in the output, and the exit code; index: among the files to do."""

    index: int
    text: str
    code: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE.jsonl",
        help="JSON lines; given again, what is missing is added",
    )
    parallel.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do the files that the output lacks; return the exit code.

    Files that fail are named, and all others are done. Raises ModelError, UsageError for other
    settings than the output's, EdgeError when it cannot be written, WorkerError when Dask is away.
    """
    task = _anywhere(options.chosen(args))
    paths, errors = expand(args.inputs, is_recursive=args.recursive)
    labels = objects.read(args.objects, paths) if args.objects else {}
    models = _models(task)
    _loaded(task, models)  # a broken model is told once, not for each file
    if args.objects:
        objects.tell_unknown(args.objects, labels, task.model)
    failures = [Failure(-1, str(error), error.exit_code) for error in errors]
    files = _files(paths, labels)
    try:
        with infer_output.opened(args.output, _settings(args, models, paths, labels)) as output:
            left = [file for file in files if file.name not in output.done]
            before = len(output.done)
            if before:
                print(f"{before} files are done, {len(left)} to do", file=sys.stderr)
            outcomes = parallel.run_tasks(
                partial(lines_of, task, models),
                left,
                workers=args.workers,
                dask=args.dask,
                title="infer",
            )
            with closing(outcomes):
                _collect(outcomes, output, failures)
    finally:
        for failure in sorted(failures, key=lambda one: one.index):
            print(f"edge-tools: {one_line(failure.text)}", file=sys.stderr)
    print(f"{args.output}: {len(output.done) - before} files done now, {len(output.done)} in all")
    return max((failure.code for failure in failures), default=EXIT_OK)


def lines_of(task: Task, models: str, file: File) -> str:
    """Return the output's lines for a file.

    models: of the task, see `_models`. Raises InputError when the file cannot be read to its end,
    ModelError when the models here are others.
    """
    make_entry = _loaded(task, models)
    try:
        return "".join(
            f"{json.dumps({**make_entry(picture), 'file': file.name})}\n"
            for picture in pictures(file.path, label=file.label)
        )
    except CameraError as error:  # as OpenCV's own time-out
        raise InputError(str(error)) from None


@once_per_thread
def _loaded(task: Task, models: str) -> EntryMaker:
    if (found := _models(task)) != models:
        fault = f"this run uses {models}, but here are now {found}"
        raise ModelError(f"{fault}; do not replace them, and give Dask's workers the same")
    return task.load()


def _models(task: Task) -> str:
    """Return what tells the models from others; ModelError when a folder is no model."""
    color = task.color_model if isinstance(task, DetectTask) else None
    return " and ".join(_identity(folder) for folder in (task.model, color) if folder)


def _identity(folder: Path) -> str:
    """Return a model's name and version, and a hash of what decides about its results."""
    found = manifest.read(folder)
    facts = f"{found.sha256} {found.decoder} {found.input} {found.labels}"
    return f"{found.name} {found.version} {_hash(facts)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _anywhere(task: Task) -> Task:
    """Return the task with absolute paths, as a Dask worker runs in another folder."""
    if isinstance(task, DetectTask) and task.color_model:
        task = replace(task, color_model=lookup.real(task.color_model))
    return replace(task, model=lookup.real(task.model))


def _files(paths: Iterable[Path], labels: Labels) -> list[File]:
    once = dict.fromkeys(paths)
    return [File(path.absolute(), text_of(path), label_of(path, labels)) for path in once]


def _settings(
    args: argparse.Namespace, models: str, paths: Iterable[Path], labels: Labels
) -> Settings:
    is_here = not all(path.is_absolute() for path in paths)
    return Settings(
        task=args.task,
        models=models,
        min_score=args.min_score if args.task == "detect" else None,
        objects=dict(labels),
        folder=text_of(Path.cwd()) if is_here else None,
    )


def _collect(outcomes: Iterable[Done[File, str]], output: Output, failures: list[Failure]) -> None:
    """Add each file's lines to the output as it is done, and what failed to `failures`.

    Raises what is the worker's fault and not the file's: ModelError and ImportError.
    """
    for done in outcomes:
        if done.result is not None:
            output.add(done.item.name, done.result)
        elif isinstance(done.error, ModelError | ImportError):
            raise done.error
        else:
            is_told = isinstance(done.error, InputError)  # with the file's name
            text = done.reason if is_told else f"{done.item.path}: {done.reason}"
            code = getattr(done.error, "exit_code", EXIT_FAILURE)
            failures.append(Failure(done.index, text, code))
