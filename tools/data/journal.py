"""Which pictures an import has done: one JSON line each, appended as they finish.

A picture is not done again when its source, its name and the settings are as they were.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.errors import EdgeError
from tools.data.convert import Converted, Task

FILE = "import.jsonl"


class Journal:
    """The file of an output folder; open it with `with`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._known = self._read()

    def __enter__(self) -> Self:
        """Open the file; EdgeError when the folder cannot be made."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a")
        except OSError as error:
            raise EdgeError(f"{self._path}: {error.strerror}; name another --output") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def find(self, task: Task) -> Converted | None:
        """Return what became of a picture earlier; None when it is to be done."""
        found = self._known.get(_key(task))
        return found if found is not None and task.target.is_file() else None

    def add(self, task: Task, done: Converted) -> None:
        """Note a picture; it is on disk when this returns."""
        line = {"key": _key(task), "size": done.size, "source_size": done.source_size}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _read(self) -> dict[str, Converted]:
        known: dict[str, Converted] = {}
        if not self._path.is_file():
            return known
        for line in self._path.read_text(errors="replace").splitlines():
            try:
                item = json.loads(line)
                (width, height), (wide, high) = item["size"], item["source_size"]
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed
            known[item["key"]] = Converted((width, height), (wide, high))
        return known


def _key(task: Task) -> str:
    try:
        status = task.source.stat()
    except OSError:
        return ""
    parts = (task.target.name, task.source.resolve(), status.st_size, status.st_mtime_ns)
    return " ".join(map(str, (*parts, task.max_side_px, task.is_copied)))
