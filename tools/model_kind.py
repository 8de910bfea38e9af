"""Finds a model and its kind, so that `edge-tools evaluate MODEL` needs no second word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edge import lookup, manifest, model_store
from edge.errors import EdgeError

Kind = Literal["classifier", "color", "detect"]
CLASSIFIER_FILE = "classifier.json"  # as tools.classifier.description, which needs more libraries
DETECTOR_FILES = frozenset({".tflite", ".onnx", ".pt"})
_TASKS: dict[manifest.Task, Kind] = {
    "classify": "classifier",
    "color": "color",
    "detect": "detect",
}


def first(arguments: Sequence[str]) -> Kind | None:
    """Return the kind of the first model among a command's arguments, None if there is none."""
    return next((kind for text in arguments if (kind := of(text)) is not None), None)


def folder_of(text: str, models_dir: str | None = None) -> Path:
    """Return the model folder with that path, else the installed one with that name.

    Raises ModelError when there is neither.
    """
    path = Path(text)
    if lookup.is_file(path / manifest.MANIFEST_NAME):
        return path
    return model_store.find(text, models_dir)


def of(text: str) -> Kind | None:
    """Return the kind of the model that an argument names, None if it names none.

    text: a classifier's run or its folder of levels, a model folder or an installed model's name,
    or the file of a detector.
    """
    if text.startswith("-"):
        return None
    path = Path(text)
    if lookup.is_folder(path) and _is_classifier(path):
        return "classifier"
    if path.suffix in DETECTOR_FILES and lookup.is_file(path):
        return "detect"
    try:
        return _TASKS[manifest.read(folder_of(text)).task]
    except EdgeError:
        return None


def _is_classifier(folder: Path) -> bool:
    return lookup.is_file(folder / CLASSIFIER_FILE) or any(folder.glob(f"*/{CLASSIFIER_FILE}"))
