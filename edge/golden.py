"""Golden test: compares a model's results on its golden picture with those in its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edge.capture import read_image
from edge.color import ColorModel
from edge.detector import Detector
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.manifest import Golden, GoldenDetection
from edge.values import Box, Detection, Image


def differences(folder: Path, *, xnnpack: bool = True) -> list[str]:
    """Return one line for each result that differs from the manifest's; empty when none does.

    Kernels round differently (xnnpack or not, x86 or ARM), so the manifest gives a tolerance.
    Objects are compared by label, overlap and score, shares one by one.
    Raises ModelError when the folder cannot be loaded or has no golden picture.
    """
    loaded = Interpreter.load(folder, xnnpack=xnnpack)
    golden = loaded.manifest.golden
    if golden is None:
        raise ModelError(f"model {folder}: its manifest has no golden picture; package it again")
    picture = read_image(folder / golden.file)
    if loaded.manifest.task == "detect":
        return list(_objects(loaded, golden, picture))
    if loaded.manifest.task == "color":
        shares = {score.name: score.score for score in ColorModel(loaded).classify(picture)}
        return list(wrong_shares(shares, golden))
    raise ModelError(f"model {folder}: the daemon has no task {loaded.manifest.task}")


def wrong_shares(shares: Mapping[str, float], golden: Golden) -> Iterator[str]:
    """Yield one line for each share, by name, that is not as expected."""
    for name, share in shares.items():
        expected = golden.shares.get(name, 0.0)
        if abs(share - expected) > golden.tolerance:
            yield f"{name}: share {share:.3f}, expected {expected:.3f}"


def _objects(loaded: Interpreter, golden: Golden, picture: Image) -> Iterator[str]:
    lowest = min((expected.score for expected in golden.detections), default=1.0)
    detector = Detector(loaded, min_score=max(lowest - golden.tolerance, 0.01))
    detections = detector.detect(picture)
    for expected in golden.detections:
        if not any(_is_same(expected, actual, golden) for actual in detections):
            yield f"{expected.label} {expected.score:.2f} at {expected.box_px}: not found"
    for actual in detections:
        is_clear = actual.score > lowest + golden.tolerance
        if is_clear and not any(_is_same(item, actual, golden) for item in golden.detections):
            yield f"{actual.label} {actual.score:.2f} at {tuple(actual.box_px)}: not expected"


def _is_same(expected: GoldenDetection, actual: Detection, golden: Golden) -> bool:
    return (
        actual.label == expected.label
        and abs(actual.score - expected.score) <= golden.tolerance
        and actual.box_px.iou(Box(*expected.box_px)) >= golden.min_iou
    )
