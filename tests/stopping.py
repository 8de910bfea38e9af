"""A training run that is stopped in between and started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


class StoppedError(Exception):
    """Stands for a kill in mid-run."""


def stopped_and_whole(
    run: Callable[[Path], object], module: ModuleType, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checkpoints of a run in two parts and of one in one go.

    run: trains into the folder that it is given. The first part ends where `module.train` is called
    for the second time. The second part ends with `parts` as its folder.
    """
    run(folder / "whole")
    original, left = module.train, [1]

    def stopping(*arguments: object) -> object:
        if not left:
            raise StoppedError
        left.pop()
        return original(*arguments)

    with patch.context() as patched:
        patched.setattr(module, "train", stopping)
        with pytest.raises(StoppedError):
            run(folder / "parts")
    whole, stopped = (_checkpoint(folder / name) for name in ("whole", "parts"))
    assert 0 < stopped["step"] < whole["step"]
    run(folder / "parts")
    return _checkpoint(folder / "parts"), whole


def _checkpoint(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoint.pt")
    return content


def assert_same_weights(parts: dict[str, Any], whole: dict[str, Any]) -> None:
    """Check that two checkpoints have the same step and moving average, to the last bit."""
    assert parts["step"] == whole["step"]
    for name, value in whole["average"].items():
        torch.testing.assert_close(parts["average"][name], value, rtol=0, atol=0)
