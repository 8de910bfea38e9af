"""Saves each picture's detections, so that a stopped evaluation can be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import __version__, detector, lookup
from tools import json_file
from tools.dataset import Dataset, Picture, file_stamp
from tools.evaluate.subjects import Options, Subject

Found = list[dict[str, Any]]  # COCO result dicts of one picture


class ResultLog:
    """Detections by picture, appended to a JSON-lines file; without a path, only in memory.

    found: detections by the picture's index in its set, including those of earlier runs, but for
    pictures whose file has changed since.
    """

    def __init__(self, path: Path | None, pictures: Sequence[Picture]) -> None:
        """Read the file if it exists; pictures whose line is damaged are measured again.

        Raises OSError when the folder cannot be made.
        """
        self._path = path
        self._pictures = pictures
        self.found: dict[int, Found] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        for known in json_file.lines(path):
            with contextlib.suppress(KeyError, TypeError, IndexError):
                if known["file"] == self._stamp(known["index"]):
                    self.found[known["index"]] = known["found"]

    def add(self, index: int, found: Found) -> None:
        """Save one picture's detections; OSError with the file's name if the disk is full."""
        self.found[index] = found
        if self._path is not None:
            known = {"index": index, "file": self._stamp(index), "found": found}
            json_file.add_line(known, self._path)

    def _stamp(self, index: int) -> str:
        return file_stamp(self._pictures[index].path)


def name_of(subject: Subject, options: Options, data: Dataset) -> str:
    """Return a file name that is unique to the model, the kernels, edge's code and the set."""
    mark = hashlib.sha256(f"{subject.size} {subject.runtime} {options}".encode())
    mark.update(f"{subject.digest} {list(subject.labels)} {data.labels}".encode())
    mark.update(__version__.encode())
    for source in sorted(Path(detector.__file__).parent.glob("*.py")):  # as of suppression
        mark.update(source.read_bytes())
    for picture in data.pictures:
        mark.update(os.fsencode(f"{picture.image_id} {lookup.real(picture.path)}\0"))
    return f"{subject.name}-{mark.hexdigest()[:16]}.jsonl"
