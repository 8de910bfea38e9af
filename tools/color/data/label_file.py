"""The file with the color labels of a data set.

A list, one row a line: `image`, `bbox` (pixels x, y, width, height; null = the whole picture),
`cls`, and per labeller N: `label_N`, `colors_N` (dominant first), `sure_N`, `outline_N` (polygons
in pixels), `by_N`; `agreed` where two have answered. `dataset` reads the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from edge import durable
from edge.color import TERMS
from edge.errors import EdgeError, InputError
from edge.values import Polygon
from tools import lock
from tools.color.data.labels import LABELS, UNCLEAR
from tools.color.data.objects import Key, Row, key_of, read_json

Label = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(LABELS)})$")]
Color = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(TERMS)})$")]
Outline = Annotated[Polygon, msgspec.Meta(min_length=1)]


class _Answers(msgspec.Struct):
    """The picture of a row, and its answers; each of them may be missing."""

    image: str
    label_1: Label = UNCLEAR
    label_2: Label = UNCLEAR
    colors_1: list[Color] = []
    colors_2: list[Color] = []
    outline_1: list[Outline] = []
    outline_2: list[Outline] = []


class LabelFile:
    """The labels of one data set: `put` writes the file, `save` writes changes made in `rows`."""

    def __init__(self, path: Path) -> None:
        """Read the file if it exists; InputError when it is no list of rows."""
        self.path = path
        self._saved: bytes | None = None
        rows = read_json(path) if path.exists() else []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: not a list of color labels; name another with --labels")
        try:
            self.rows: dict[Key, Row] = {key_of(row["image"], row["bbox"]): row for row in rows}
            for row in rows:
                msgspec.convert(row, _Answers)
        except KeyError as error:
            raise InputError(f"{path}: a row without {error}; name another with --labels") from None
        except TypeError:
            raise InputError(
                f"{path}: a row whose bbox is not x, y, width, height; name another with --labels"
            ) from None
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: a row of {row['image']}: {error}; correct it") from None

    def get(self, key: Key) -> Row | None:
        """Return an object's row, None when there is none."""
        return self.rows.get(key)

    def put(self, key: Key, row: Row | None) -> None:
        """Replace the object's row, or remove it (None); the file is written on return.

        Raises EdgeError when another program has changed what `save` wrote.
        """
        if self._saved is not None and self.path.exists() and self.path.read_bytes() != self._saved:
            raise EdgeError(
                f"not saved: another program changed {self.path}; end this command and start it "
                "again, to read the change"
            )
        former = self.rows.pop(key, None)
        if row is not None:
            self.rows[key] = row
        try:
            self.save()
        except OSError:
            self.rows.pop(key, None)
            if former is not None:
                self.rows[key] = former
            raise

    def save(self) -> None:
        """Write all rows; a kill at any moment leaves either the old file or the new one."""
        lines = b",\n".join(msgspec.json.encode(row) for row in self.rows.values())
        content = b"[\n" + lines + b"\n]\n"
        durable.replace(self.path, content, is_synced=True)
        self._saved = content


@contextmanager
def opened(path: Path, option: str) -> Iterator[LabelFile]:
    """Lock a label file for one command and yield its content; make its folder.

    option: the command's option that names another file, for messages. Raises EdgeError while
    another command holds the lock, as each would overwrite the other's labels, and when the file
    cannot be written.
    """
    with lock.held(path, option):
        labels = LabelFile(path)
        _check_writable(labels, option)
        yield labels


def _check_writable(labels: LabelFile, option: str) -> None:
    try:
        labels.save()
    except OSError as error:
        raise lock.unwritable(labels.path, error, option) from None


def with_agreement(row: Row) -> Row:
    """Return the row with `agreed` where two labellers have answered, null where they differ."""
    row = {key: value for key, value in row.items() if key != "agreed"}
    if "label_1" in row and "label_2" in row:
        row["agreed"] = row["label_1"] if row["label_1"] == row["label_2"] else None
    return row
