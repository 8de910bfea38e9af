"""Whose a run's folder is: the settings of its training lie in it, and no other run may have it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from edge.errors import InputError
from tools import tracking
from tools.classifier.description import Training, write_json

RUN_FILE = "training.json"
STATE = "state"  # folder of what a training goes on with


def claim(folder: Path, training: Training) -> None:
    """Note a run's settings in its folder, once it is known to have data and a network.

    Raises InputError where another run is in the folder.
    """
    refuse_another(folder, training)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN_FILE, training)


def refuse_another(folder: Path, training: Training) -> None:
    """Raise InputError where another run is in the folder."""
    before = noted(folder)
    if before is not None and before != training:
        raise InputError(
            f"{folder} holds a run with other settings ({difference(before, training)}); "
            "name another folder with --output"
        )


def noted(folder: Path) -> Training | None:
    """Return the settings of the run in a folder; None where there is none.

    Raises InputError when they cannot be read.
    """
    path = folder / RUN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Training)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: {error}; remove it, or name another folder") from None


def give_up(folder: Path) -> None:
    """Remove what a run's training would go on with; what it made stays until it is replaced."""
    shutil.rmtree(folder / STATE, ignore_errors=True)
    for name in (tracking.RUN_FILE, RUN_FILE):
        (folder / name).unlink(missing_ok=True)


def difference(before: Training, after: Training) -> str:
    """Return the settings of `before` that `after` has otherwise."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return ", ".join(f"{key} {old[key]}" for key in old if old[key] != new[key])
