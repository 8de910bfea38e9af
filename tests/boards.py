"""A board that takes models from a registry."""

from __future__ import annotations

from pathlib import Path

import yaml

from edge import bundle, model_store, model_update
from edge.interpreter import Interpreter
from edge.model_shelf import Shelf
from models import COLOR
from registered import Registry, golden_folder, with_wrong_golden
from tools.registry import versions


class Board:
    """A registry that signs and a board that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder)
        self.models_dir = folder / "board"
        self.models_dir.mkdir()
        self.shelf = Shelf(self.models_dir, COLOR)

    def pull(self, version: str, *, is_forced: bool = False) -> None:
        model_update.pull(
            self.registry.store, self.shelf, version, self.registry.trusted, is_forced=is_forced
        )

    def loaded(self) -> str:
        """The version that a daemon gets, verified."""
        folder = model_store.find(COLOR, str(self.models_dir))
        model_update.refuse_unsigned(folder, self.registry.trusted)
        return Interpreter.load(folder).manifest.version

    def register_wrong(self, version: str) -> None:
        """Register a correctly signed version that does not reproduce its golden result."""
        source = with_wrong_golden(golden_folder(self.registry.folder / "wrong", version))
        new = bundle.describe(
            source, COLOR, version, versions._next_serial(self.registry.store, COLOR)
        )
        versions._upload(self.registry.store, source, new, self.registry.key)


def config_of(board: Board, folder: Path) -> Path:
    """The config file of a daemon on that board, which names colors with the pulled model."""
    path = folder / "edge.yaml"
    models = {
        "registry": str(board.registry.folder / "registry"),
        "trusted_keys": [board.registry.key.public.text()],
    }
    config = {
        "models_dir": str(board.models_dir),
        "models": models,
        "cameras": {"front": {"source": 0}},
        "color": {"model": COLOR},
    }
    path.write_text(yaml.safe_dump(config))
    return path
