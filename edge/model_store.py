"""Finds model folders: the user's own first, then those that ship with edge."""

from __future__ import annotations

import os
from pathlib import Path

from edge import lookup
from edge.errors import ModelError
from edge.manifest import MANIFEST_NAME

_PACKAGE = Path(__file__).resolve().parent
# Inside an installed wheel the models lie in the package; in a checkout beside it.
SHIPPED_DIRS = (_PACKAGE / "models", _PACKAGE.parent / "models")


def search_dirs(models_dir: str | None) -> list[Path]:
    """Return the existing directories that hold model folders, in order of precedence.

    models_dir: the user's own, searched first. Raises ModelError when it cannot be listed.
    """
    if models_dir is None:
        return [folder for folder in SHIPPED_DIRS if folder.is_dir()]
    own = lookup.expanded(models_dir, ModelError)
    if not lookup.is_folder(own) or not os.access(own, os.R_OK | os.X_OK):
        reason = lookup.why_hidden(own) or "no folder that can be listed; make it"
        raise ModelError(f"models_dir {models_dir}: {reason}")
    return [own, *(folder for folder in SHIPPED_DIRS if folder.is_dir())]


def is_shipped(folder: Path) -> bool:
    """Return whether a model folder came with edge itself."""
    return folder.resolve().parent in [shipped.resolve() for shipped in SHIPPED_DIRS]


def is_shipped_name(name: str) -> bool:
    """Return whether a model of this name came with edge itself."""
    return any(lookup.is_file(folder / name / MANIFEST_NAME) for folder in SHIPPED_DIRS)


def installed(models_dir: str | None = None) -> list[Path]:
    """Return all model folders, sorted by name; a user's own hides a shipped one of that name."""
    folders: dict[str, Path] = {}
    for directory in search_dirs(models_dir):
        for folder in sorted(directory.iterdir()):
            if lookup.is_file(folder / MANIFEST_NAME):
                folders.setdefault(folder.name, folder)
    return [folders[name] for name in sorted(folders)]


def find(model: str, models_dir: str | None = None) -> Path:
    """Return the folder of a model given by name or by path.

    Raises ModelError naming the installed models when there is none.
    """
    if "/" in model:
        folder = lookup.expanded(model, ModelError)
        if lookup.is_file(folder / MANIFEST_NAME):
            return folder
        reason = lookup.why_hidden(folder / MANIFEST_NAME) or f"no {MANIFEST_NAME} there"
        raise ModelError(f"model {model}: {reason}; name a model folder")
    for folder in installed(models_dir):
        if folder.name == model:
            return folder
    names = ", ".join(folder.name for folder in installed(models_dir)) or "none"
    is_here = lookup.is_file(Path(model, MANIFEST_NAME))
    here = f"; for the folder here write ./{model}" if is_here else ""
    raise ModelError(f"model {model!r} is not installed; installed: {names}{here}")
