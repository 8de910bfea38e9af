"""Ties a run's folder to its training settings and pictures: a run with others is refused there."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from edge.errors import InputError
from tools import tracking
from tools.classifier.description import Training, write_json

RUN_FILE = "training.json"
DATA_FILE = "training-data.txt"  # hash of the pictures, their labels and the class names
STATE = "state"  # folder of the state from which a training resumes


def claim(folder: Path, training: Training, data_sha256: str) -> None:
    """Store a run's settings in its folder; called once data and network are known to be usable.

    Raises InputError when the folder holds another run.
    """
    refuse_other_run(folder, training)
    refuse_other_data(folder, data_sha256)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATA_FILE).write_text(f"{data_sha256}\n")
    write_json(folder / RUN_FILE, training)


def refuse_other_run(folder: Path, training: Training) -> None:
    """Raise InputError when the folder holds a run with other settings."""
    before = stored_settings(folder)
    if before is not None and before != training:
        raise InputError(
            f"{folder} holds a run with other settings ({difference(before, training)}); "
            "name another folder with --output"
        )


def refuse_other_data(folder: Path, data_sha256: str) -> None:
    """Raise InputError when the folder holds a run on other pictures or classes."""
    note = folder / DATA_FILE  # runs from before this file have none
    if (folder / RUN_FILE).exists() and note.exists() and note.read_text().strip() != data_sha256:
        raise InputError(
            f"{folder} holds a run on other pictures or classes; name another folder with --output"
        )


def stored_settings(folder: Path) -> Training | None:
    """Return the settings of the run in a folder; None if there is none.

    Raises InputError when they cannot be read.
    """
    path = folder / RUN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Training)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: {error}; remove it, or name another folder") from None


def discard_state(folder: Path) -> None:
    """Remove the state from which a run would resume; its results stay until replaced."""
    shutil.rmtree(folder / STATE, ignore_errors=True)
    for name in (tracking.RUN_FILE, RUN_FILE, DATA_FILE):
        (folder / name).unlink(missing_ok=True)


def difference(before: Training, after: Training) -> str:
    """Return, as text, the settings of `before` that differ in `after`."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return ", ".join(f"{key} {old[key]}" for key in old if old[key] != new[key])
