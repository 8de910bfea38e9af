"""Remembers which data set a run was trained on, so that later steps need no `--data`.

The note is stored in the run's folder and in that of its levels, never in a model folder, so that
a published model does not contain a path of this machine.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import InputError

FILE = "dataset.txt"
FOLDERS_ABOVE = 2  # RUN/levels/IO


def remember(folder: Path, dataset: Path) -> None:
    """Store the path of the data set in a folder, creating it if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(f"{dataset.resolve()}\n")


def dataset(named: Path | None, model: Path) -> Path:
    """Return `named` if given, else the data set stored for the model's run.

    model: a run, its folder of levels, or one of its levels.
    Raises InputError when none is stored or the stored folder no longer exists.
    """
    if named is not None:
        return named
    places = [model.resolve(), *model.resolve().parents][: FOLDERS_ABOVE + 1]
    note = next((place / FILE for place in places if (place / FILE).is_file()), None)
    if note is None:
        raise InputError(f"{model}: no note of its data set; name it with --data")
    found = Path(note.read_text().strip())
    if not found.is_dir():
        raise InputError(f"{note}: the data set {found} is not there; name it with --data")
    return found
