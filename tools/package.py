"""Writes model folders: `model.tflite`, `manifest.json`, the golden picture, `CARD.md`.

Facts that the file contains (tensors, scales, certificate, hash) are read from it; the others are
passed in `Facts`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge import certificate, durable, interpreter, manifest
from edge.detector import Detector
from edge.errors import ModelError, UsageError
from edge.interpreter import Interpreter
from edge.manifest import (
    Accuracy,
    Decoder,
    Golden,
    GoldenDetection,
    Input,
    Manifest,
    Task,
)
from tools import dataset, detector_card

if TYPE_CHECKING:
    from tools.evaluate.accuracy import Accuracy as Measured

logger = logging.getLogger(__name__)

MODEL_FILE = "model.tflite"
CARD_FILE = "CARD.md"
GOLDEN_SCORE = 0.5  # objects of the golden picture from this score on must be detected
TABLE_BEGIN = "<!-- measured: begin -->"
TABLE_END = "<!-- measured: end -->"


@dataclass(frozen=True)
class Facts:
    """Facts about a model that its file does not contain.

    image: keyword arguments of `manifest.Input` besides those of the tensor. training: free text by
    topic (data, method, source of the weights, commit). is_foreign: whether it is a third-party
    model, which may be float; ours must be integer-only.
    """

    name: str
    version: str
    task: Task
    image: dict[str, Any]
    decoder: Decoder
    labels: tuple[str, ...]
    parameters: int
    training: dict[str, str]
    licence: str
    golden: Golden | None = None
    is_foreign: bool = False


def refuse_other_kind(folder: Path, decoder: str) -> None:
    """Raise UsageError when a folder holds a model with another decoder: it would be lost."""
    try:
        there = manifest.read(folder)
    except ModelError:
        return
    if there.decoder.name != decoder:
        raise UsageError(
            f"--output {folder}: holds {there.name}, a model of another kind "
            f"({there.task}, {there.decoder.name}); name another folder"
        )


def write_folder(folder: Path, model: Path, facts: Facts) -> Manifest:
    """Copy a .tflite file into a model folder with its manifest; return the manifest.

    Raises ModelError when the file is not a complete flatbuffer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / MODEL_FILE
    if model.resolve() != target.resolve():
        shutil.copyfile(model, target)
    content = target.read_bytes()
    proof = certificate.certify(target)
    inputs, outputs = interpreter.read_tensors(content, target)
    written = Manifest(
        format=1,
        name=facts.name,
        version=facts.version,
        task=facts.task,
        file=MODEL_FILE,
        sha256=hashlib.sha256(content).hexdigest(),
        parameters=facts.parameters,
        input=Input(**msgspec.structs.asdict(inputs[0]), **facts.image),
        outputs=outputs,
        decoder=facts.decoder,
        labels=facts.labels,
        certificate=proof,
        accuracy=(),
        training=facts.training,
        licence=facts.licence,
        golden=facts.golden,
        allow_float=facts.is_foreign and not proof.integer_only,
    )
    manifest.write(folder, written)
    return written


def replace_card(folder: Path, text: str) -> None:
    """Replace the card atomically; OSError with the file's name when the disk is full."""
    durable.replace(folder / CARD_FILE, text.encode())


def write_card(folder: Path, text: str, earlier: str | None) -> None:
    """Write a card; of one edited by hand, only the measured part is replaced.

    text: the new card. earlier: the card as generated for the previous model, None if unknown; the
    existing card counts as edited when it differs from it outside the measured part.
    """
    card = folder / CARD_FILE
    if card.exists() and (
        earlier is None or _outside_table(card.read_text()) != _outside_table(earlier)
    ):
        _write_part(card, text.partition(TABLE_BEGIN)[2].partition(TABLE_END)[0].strip())
    else:
        replace_card(folder, text)


def add_golden_detections(folder: Path, picture: Path, *, tolerance: float) -> Manifest:
    """Copy a picture into the folder and store the model's detections in it; return the manifest.

    tolerance: of scores, because kernels round differently, see tools/README.md.
    A picture in which the model finds nothing is stored too, with a warning: it proves little.
    """
    target = folder / f"golden{picture.suffix}"
    if picture.resolve() != target.resolve():
        shutil.copyfile(picture, target)
    detector = Detector(Interpreter.load(folder), min_score=GOLDEN_SCORE)
    expected = tuple(
        GoldenDetection(
            label=found.label,
            score=round(found.score, 4),
            box_px=tuple(round(value, 1) for value in found.box_px),  # type: ignore[arg-type]
        )
        for found in detector.detect(dataset.load_file(target))
    )
    if not expected:
        logger.warning(
            "golden.empty picture=%s min_score=%.1f: nothing found in it, so a wrong model would "
            "pass as well; give --golden a picture with objects that the model finds",
            picture,
            GOLDEN_SCORE,
        )
    golden = Golden(file=target.name, tolerance=tolerance, min_iou=0.8, detections=expected)
    return _replace(folder, golden=golden)


def record_accuracy(folder: Path, measured: Measured, annotations: Path, images: Path) -> Manifest:
    """Store measured figures in the manifest and the card's tables; return the manifest.

    annotations, images: the set it was measured on, as given on the command line.
    """
    words = ["edge-tools", "evaluate", "detect", f"models/{folder.resolve().name}"]
    words += ["--annotations", str(annotations), "--images", str(images)]
    command = shlex.join(words)
    figures = {"AP": measured.ap, "AP50": measured.ap50, "AP75": measured.ap75}
    for groups in (measured.classes, measured.sizes, measured.sources):
        known = {name: item.ap50 for name, item in groups.items() if not math.isnan(item.ap50)}
        figures |= {f"AP50 {name}": value for name, value in known.items()}
    accuracy = tuple(
        Accuracy(dataset=measured.dataset, metric=metric, value=value, command=command)
        for metric, value in figures.items()
    )
    has_seen = (folder / detector_card.SEEN_FILE).is_file()
    part = detector_card.measured_part(measured, command, has_seen=has_seen)
    return record(folder, accuracy, part)


def record(folder: Path, accuracy: tuple[Accuracy, ...], part: str) -> Manifest:
    """Store figures in the manifest, and `part` in the card as its measured part.

    Returns the manifest.
    """
    _write_part(folder / CARD_FILE, part)
    return _replace(folder, accuracy=accuracy)


def _replace(folder: Path, **changes: Any) -> Manifest:
    changed = msgspec.structs.replace(manifest.read(folder), **changes)
    manifest.write(folder, changed)
    return changed


def _outside_table(card: str) -> tuple[str, str]:
    """Return the text before and after the measured part of a card."""
    return card.partition(TABLE_BEGIN)[0], card.partition(TABLE_END)[2]


def _write_part(card: Path, part: str) -> None:
    """Replace the part of the card between the two marks; a card without them is not changed."""
    text = card.read_text() if card.exists() else ""
    before, begin, rest = text.partition(TABLE_BEGIN)
    _old, end, after = rest.partition(TABLE_END)
    if begin and end:
        replace_card(card.parent, f"{before}{begin}\n{part}\n{end}{after}")
    else:
        logger.warning("card.unmarked path=%s has no marks for figures", card)
