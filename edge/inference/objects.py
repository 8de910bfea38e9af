"""The file that says what pictures show, which a color model may use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edge import manifest
from edge.errors import InputError, brief
from edge.inference.inputs import text_of

logger = logging.getLogger(__name__)

Labels = Mapping[str, str | None]  # by file name or path; None: not known


def read(objects: Path, paths: Sequence[Path]) -> Labels:
    """Return the labels in a JSON file.

    Entries that name none of `paths` are logged. Raises InputError for another JSON file.
    """
    try:
        labels = msgspec.json.decode(objects.read_bytes(), type=dict[str, str | None])
    except OSError as error:
        raise InputError(
            f"{objects}: {error.strerror}; name a readable file with --objects"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f'{objects}: not a JSON object of labels by file name ({{"a.jpg": "dog"}}): '
            f"{brief(error)}"
        ) from None
    names = {name for path in paths for name in (text_of(path), text_of(path.name))}
    strangers = labels.keys() - names
    if paths and strangers:
        logger.warning(
            "infer.unknown_files file=%s entries=%d of %d first=%s; pictures are named %s or %s",
            objects,
            len(strangers),
            len(labels),
            min(strangers),
            paths[0].name,
            paths[0],
        )
    return labels


def label_of(path: Path, labels: Labels) -> str | None:
    """Return what a picture shows, None where that is not known."""
    return labels.get(text_of(path), labels.get(text_of(path.name)))


def tell_unknown(objects: Path, labels: Labels, model: Path) -> None:
    """Log the labels that a color model does not know.

    objects: the file of the labels. model: its folder. Raises ModelError.
    """
    found = manifest.read(model)
    known = found.input.classes
    if unknown := sorted({label for label in labels.values() if label} - {*known}):
        logger.warning(
            "infer.unknown_labels file=%s labels=%s; %s knows %s",
            objects,
            ", ".join(unknown),
            found.name,
            ", ".join(known) or "no labels",
        )
