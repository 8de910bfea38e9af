"""What was found in each picture, on disk, so that a stopped evaluation goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from edge import lookup
from tools.dataset import Dataset
from tools.evaluate.subjects import Options, Subject

Found = list[dict[str, Any]]  # COCO result dicts of one picture


class Note:
    """A file with one line of JSON for each picture; without a path it only remembers.

    found: by the picture's place in its set, what earlier runs noted included.
    """

    def __init__(self, path: Path | None) -> None:
        """Read what is there. A last line that a kill cut off is left out, and written anew.

        Raises OSError when the folder cannot be made.
        """
        self._path = path
        self.found: dict[int, Found] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.read_text().splitlines(keepends=True) if path.exists() else []
        lines = [line for line in whole if line.endswith("\n")]
        if len(lines) < len(whole):
            path.write_text("".join(lines))
        for line in lines:
            picture = json.loads(line)
            self.found[picture["index"]] = picture["found"]

    def add(self, index: int, found: Found) -> None:
        """Note one picture's objects."""
        self.found[index] = found
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"index": index, "found": found}) + "\n")


def name_of(subject: Subject, options: Options, data: Dataset) -> str:
    """Return a file name that another model, kernel family or set does not have."""
    mark = hashlib.sha256(f"{subject.size} {subject.runtime} {options}".encode())
    mark.update(f"{subject.digest} {data.labels}".encode())
    for picture in data.pictures:
        mark.update(os.fsencode(f"{picture.image_id} {lookup.real(picture.path)}\0"))
    return f"{subject.name}-{mark.hexdigest()[:16]}.jsonl"
