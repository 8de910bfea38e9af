"""Tiny models with golden pictures, a registry that holds them, and keys that sign them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge import manifest, registry
from edge.bundle import Bundle
from edge.color import ColorModel
from edge.interpreter import Interpreter
from edge.manifest import Golden
from edge.registry import Store
from edge.signature import SecretKey
from models import COLOR, change_manifest, color_folder
from tools.registry import versions


def golden_folder(parent: Path, version: str, **changes: Any) -> Path:
    """A color model that gives the expected golden result for a red picture."""
    folder = color_folder(parent / version, version=version)
    red = np.zeros((8, 8, 3), np.uint8)
    red[:] = (0, 0, 255)
    cv2.imwrite(str(folder / "golden.png"), red)
    shares = {one.name: one.score for one in ColorModel(Interpreter.load(folder)).classify(red)}
    golden = Golden(file="golden.png", tolerance=0.02, shares=shares)
    return change_manifest(folder, golden=golden, **changes)


def with_wrong_golden(folder: Path) -> Path:
    """Expect other shares of the golden picture than the model gives."""
    good = manifest.read(folder).golden
    assert good is not None
    wrong = dict.fromkeys(good.shares, 1 / 11)
    return change_manifest(folder, golden=Golden(file=good.file, tolerance=0, shares=wrong))


@dataclass
class Registry:
    """A registry in a folder and the key that signs for it."""

    folder: Path
    key: SecretKey = field(default_factory=SecretKey.generate)
    name: str = COLOR

    @property
    def store(self) -> Store:
        return registry.open_store(str(self.folder / "registry"), is_new=True)

    @property
    def place(self) -> list[str]:
        """The option that names it to a command."""
        return ["--registry", str(self.folder / "registry")]

    def push(self, version: str, **changes: Any) -> Bundle:
        """Register a version, unchecked by `push` where its golden result is a wrong one."""
        source = golden_folder(self.folder / "sources", version)
        if changes:
            change_manifest(source, **changes)
        return versions.push(self.store, source, self.key)

    def file(self, version: str, name: str) -> Path:
        """A stored object: VERSION_NAME, or a file of the folder."""
        folder = self.folder / "registry" / self.name / version
        (found,) = [*folder.glob(name), *folder.glob(f"{name}.{'[0-9a-f]' * 64}")]
        return found

    @property
    def trusted(self) -> tuple[Any, ...]:
        return (self.key.public,)
