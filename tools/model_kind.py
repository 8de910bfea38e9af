"""What kind of model an argument names: `edge-tools evaluate MODEL` needs no second word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edge import manifest, model_store
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
    """Return the kind of the first model among a command's arguments; None without one."""
    return next((kind for text in arguments if (kind := of(text)) is not None), None)


def of(text: str) -> Kind | None:
    """Return the kind of model that an argument names; None where it names none.

    text: a classifier's run or its folder of levels, a model folder or an installed model's name,
    or the file of a detector.
    """
    if text.startswith("-"):
        return None
    path = Path(text)
    if (path / CLASSIFIER_FILE).is_file() or any(path.glob(f"*/{CLASSIFIER_FILE}")):
        return "classifier"
    if path.suffix in DETECTOR_FILES and path.is_file():
        return "detect"
    try:
        folder = path if (path / manifest.MANIFEST_NAME).is_file() else model_store.find(text)
        return _TASKS[manifest.read(folder).task]
    except EdgeError:
        return None
