"""The output of `edge-tools infer`: JSON lines, file by file, to which a later run adds the rest.

The output itself says which files are done. What its lines depend on is in `NAME.settings` beside
it, and a run with other settings is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edge import durable
from edge.errors import EdgeError, InputError, UsageError, brief
from edge.inference.objects import Labels, label_of
from tools import lock

FIX = "name another file with --output"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the lines depend on, apart from the pictures.

    models: their names, versions and hashes. min_score: None where it means nothing. objects: what
    pictures show; a later run may add to it. folder: in which relative names of files are meant,
    None when all are absolute.
    """

    task: str
    models: str
    min_score: float | None
    objects: dict[str, str | None]
    folder: str | None


class _Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `NAME.settings`; up to `whole_bytes` the output has whole files only."""

    settings: Settings
    whole_bytes: int


class _Line(msgspec.Struct):
    """What tells to which file a line belongs; those of videos have a frame."""

    file: str
    frame: int | None = None


class Output:
    """An output that one run holds.

    done: names of the files whose lines it has. size: of these lines, in bytes.
    """

    def __init__(self, path: Path, done: set[str], size: int) -> None:
        self.done = done
        self.size = size
        self._path = path

    def add(self, name: str, lines: str) -> None:
        """Append all lines of a file; they are in the output when this returns.

        Raises EdgeError when the disk is full.
        """
        content = lines.encode()
        try:
            with self._path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise lock.unwritable(self._path, error, "--output") from None
        self.size += len(content)
        self.done.add(name)


@contextmanager
def opened(path: Path, settings: Settings) -> Iterator[Output]:
    """Lock an output for one run and yield it, without what a killed run left incomplete.

    Raises UsageError when it was made with other settings or by another program, InputError for a
    damaged line, EdgeError while another run holds it and when it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise EdgeError(f"{path}: not a plain file; {FIX}")
    note = path.with_name(f"{path.name}.settings")
    with lock.held(path, "--output"):
        known = _known(path, note, settings)
        output = Output(path, *_read(path, known.whole_bytes))
        _refuse_other_objects(path, output.done, known.settings.objects, settings.objects)
        try:
            with path.open("ab") as file:
                file.truncate(output.size)
            _write(note, settings, output.size)
        except OSError as error:
            raise lock.unwritable(path, error, "--output") from None
        try:
            yield output
        finally:
            with suppress(OSError):  # the next run drops what is incomplete
                os.truncate(path, output.size)
                _write(note, settings, output.size)


def _write(note: Path, settings: Settings, whole_bytes: int) -> None:
    content = msgspec.json.encode(_Note(settings=settings, whole_bytes=whole_bytes))
    durable.replace(note, msgspec.json.format(content) + b"\n", is_synced=True)


def _known(path: Path, note: Path, settings: Settings) -> _Note:
    """Return the note of an output, an empty one where there is none.

    Raises UsageError when it was made with other settings, apart from objects, or by another
    program.
    """
    if not path.exists() or not path.stat().st_size:
        return _Note(settings=settings, whole_bytes=0)
    try:
        known = msgspec.json.decode(note.read_bytes(), type=_Note)
    except FileNotFoundError:
        raise UsageError(f"{path}: there already, without {note.name} beside it; {FIX}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{note}: {brief(error)}; {FIX}") from None
    before = msgspec.structs.replace(known.settings, objects=settings.objects)
    if before != settings:
        differing = _difference(before, settings)
        raise UsageError(f"{path} has other settings ({differing}); give those, or {FIX}")
    return known


def _refuse_other_objects(path: Path, done: set[str], before: Labels, now: Labels) -> None:
    """Raise UsageError when a file that is done was another object, or none, before."""
    for name in sorted(done):
        old, new = (label_of(Path(name), labels) for labels in (before, now))
        if old != new:
            fault = f"{name} is done with the object {old}, now {new}"
            raise UsageError(f"{path}: {fault}; give the same --objects for it, or {FIX}")


def _difference(before: Settings, now: Settings) -> str:
    """Return, as text, the settings that differ."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(now)
    return ", ".join(f"{key} {old[key]}, now {new[key]}" for key in old if old[key] != new[key])


def _read(path: Path, whole_bytes: int) -> tuple[set[str], int]:
    """Return the files whose lines are all there, and the length of these lines in bytes.

    What follows them is a torn line, or the lines of a video that may lack further ones.
    """
    done: set[str] = set()
    if not path.exists():
        return done, 0
    last = _Line("")
    begin = end = 0  # of the last file's lines
    with path.open("rb") as file:
        for number, content in enumerate(file, 1):
            if not content.endswith(b"\n"):
                break
            line = _decoded(content, f"{path}: line {number}")
            if line.file != last.file:
                begin = end
            last = line
            end += len(content)
            done.add(line.file)
    if last.frame is not None and whole_bytes != path.stat().st_size:
        done.remove(last.file)
        end = begin
    return done, end


def _decoded(content: bytes, where: str) -> _Line:
    try:
        return msgspec.json.decode(content, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is damaged ({brief(error)}); remove it, or {FIX}") from None
