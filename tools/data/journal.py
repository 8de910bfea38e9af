"""Records which pictures an import has finished: one JSON line each, appended as they finish.

A picture is skipped if its source, its name and the settings are unchanged. The last line about a
file counts, because another import may have overwritten it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge import lookup
from edge.errors import EdgeError, why_not_written
from tools import json_file
from tools.data.convert import Converted, Task

FILE = "import.jsonl"


class Journal:
    """The journal file of an output folder, which is created."""

    def __init__(self, folder: Path) -> None:
        """Read the file; EdgeError when it cannot be written."""
        self._path = folder / FILE
        self._root = lookup.real(folder)
        self._known: dict[str, tuple[str, Converted]] = {}  # key and sizes, by target
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            lines = json_file.lines(self._path)
        except OSError as error:
            raise EdgeError(f"{self._path}: {error.strerror}; name another --output") from None
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._apply(line)

    def find(self, task: Task) -> Converted | None:
        """Return an earlier result of this task; None if the picture must be converted."""
        key, done = self._known.get(self._name(task), ("", None))
        return done if key and key == _key(task) and task.target.is_file() else None

    def forget(self, tasks: Iterable[Task]) -> None:
        """Record that pictures will be overwritten; written to the file when this returns."""
        for name in map(self._name, tasks):
            if self._known.pop(name, None):
                self._write({"target": name, "key": None})

    def add(self, task: Task, done: Converted) -> None:
        """Record a finished picture; written to the file when this returns."""
        name, key = self._name(task), _key(task)
        sizes = {"size": done.size, "source_size": done.source_size}
        self._write({"target": name, "key": key, **sizes})
        self._known[name] = (key, done)

    def _write(self, line: dict[str, Any]) -> None:
        """Append a line; EdgeError when the disk is full."""
        try:
            json_file.add_line(line, self._path)
        except OSError as error:
            raise EdgeError(f"{self._path}: {why_not_written(error)}") from None

    def _name(self, task: Task) -> str:
        return task.target.relative_to(self._root).as_posix()

    def _apply(self, item: dict[str, Any]) -> None:
        """Apply a line; KeyError, TypeError or ValueError when it is malformed."""
        self._known.pop(item["target"], None)
        if item["key"] is not None:
            (width, height), (wide, high) = item["size"], item["source_size"]
            done = Converted((width, height), (wide, high))
            self._known[item["target"]] = (item["key"], done)


def _key(task: Task) -> str:
    try:
        status = task.source.stat()
    except OSError:
        return ""
    parts = (task.source.resolve(), status.st_size, status.st_mtime_ns)
    return " ".join(map(str, (*parts, task.max_side_px, task.is_copied)))
