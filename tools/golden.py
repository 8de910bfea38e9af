"""Checks the golden results of all models, including classifiers, which boards do not run."""

from __future__ import annotations

from pathlib import Path

from edge import golden, manifest
from edge.capture import read_image
from edge.errors import ModelError
from edge.interpreter import Interpreter
from tools.classifier import packaged


def differences(folder: Path, *, xnnpack: bool = True) -> list[str]:
    """Return one line per deviation from the manifest's golden result; empty if there is none.

    Like `edge.golden.differences`, but also for classifiers.
    """
    described = manifest.read(folder)
    if described.task != "classify":
        return golden.differences(folder, xnnpack=xnnpack)
    if described.golden is None:
        raise ModelError(f"model {folder}: its manifest has no golden picture; package it again")
    loaded = Interpreter.load(folder, xnnpack=xnnpack)
    found = packaged.probabilities(loaded, read_image(folder / described.golden.file))
    return list(golden.wrong_shares(found, described.golden))
