"""Distillation: targets for a training from the answers of trained models, the teachers.

A teacher is asked about every crop that the network sees, changed in the same way and at the
teacher's own resolution, so that the network learns how the teacher answers to odd light and cut
edges, too. Teachers are int8 model folders, run as in the daemon: in a fifth of their float
networks' time. An unlabelled box of `detection/train` has the teachers' mean as its target, a
labelled one a mixture of the mean and its labels.
Sources: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Beyer et al., Knowledge
distillation: A good teacher is patient and consistent, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from edge.color import TERMS, ColorModel
from edge.errors import InputError
from edge.interpreter import Interpreter
from edge.values import Image
from tools.color.data import dataset
from tools.color.data.arrays import OBJECT_CLASSES
from tools.color.data.dataset import ColorItem

Shares = npt.NDArray[np.float32]  # (n, 11), each row summing to 1
UNLABELLED_WEIGHT = 0.6
MIN_BOX_PX = 14.0  # longer side of the smallest unlabelled box that is used


class Teachers:
    """Trained color models whose calibrated shares are averaged; none: no answers."""

    def __init__(self, folders: Sequence[Path] = (), threads: int = 1) -> None:
        """Load the models, once per thread that asks them.

        Raises ModelError when a folder is no color model, InputError when its labels are others.
        """
        self._by_thread = [
            [ColorModel(Interpreter.load(folder)) for folder in folders] for _ in range(threads)
        ]
        self._models = self._by_thread[0]
        for model in self._models:
            if model.manifest.labels != TERMS:
                raise InputError(
                    f"{model.manifest.name} cannot teach: its labels are not the basic color terms"
                )

    @property
    def side_px(self) -> int:
        """The largest side of the teachers' inputs, 0 without teachers."""
        return max((max(model.input_size) for model in self._models), default=0)

    @property
    def names(self) -> tuple[str, ...]:
        """Each teacher's name, version and hash."""
        stated = (model.manifest for model in self._models)
        return tuple(f"{one.name} {one.version} ({one.sha256[:12]})" for one in stated)

    def shares(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Return the teachers' mean shares, float32 (n, 11), each row summing to 1.

        pixels: (n, 3, side, side), RGB, (level - 128) / 128. classes: int64 (n,), rows of
            OBJECT_CLASSES, negative where the class is not known.
        """
        levels = (pixels * 128 + 128).round().to(torch.uint8)
        pictures = levels.flip(1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        labels = [OBJECT_CLASSES[row] if row >= 0 else None for row in classes.tolist()]
        crops = list(zip(pictures, labels, strict=True))
        size = math.ceil(len(crops) / len(self._by_thread))
        parts = [crops[start : start + size] for start in range(0, len(crops), size)]
        with ThreadPoolExecutor(len(self._by_thread)) as pool:
            found = np.concatenate([*pool.map(_mean_shares, self._by_thread, parts)])
        return torch.from_numpy(found).to(pixels.device)


def _mean_shares(models: Sequence[ColorModel], crops: Sequence[tuple[Image, str | None]]) -> Shares:
    """Return the models' mean shares of BGR crops with their classes, (n, 11)."""
    found = np.zeros((len(crops), len(TERMS)), np.float32)
    for row, (bgr, label) in enumerate(crops):
        for model in models:
            for share in model.classify(bgr, label):
                found[row, TERMS.index(share.name)] += share.score
    found /= len(models)
    return found


NO_TEACHERS = Teachers()


def unlabelled(items: Sequence[ColorItem], data: Path) -> list[ColorItem]:
    """Return the boxes of detection/train that are none of the labelled items."""
    further = dataset.unlabelled_items(data, items, MIN_BOX_PX)
    return [replace(item, weight=UNLABELLED_WEIGHT) for item in further]


def mixed(labels: Tensor, answers: Tensor, share: float) -> Tensor:
    """Return targets (n, 11): `share` of the answers, all of it where the label says nothing.

    labels: (n, 11), rows of equal values where no color was named.
    """
    named = labels.amax(1, keepdim=True) > labels.amin(1, keepdim=True)
    return torch.where(named, torch.lerp(labels, answers, share), answers)


def resized(pixels: Tensor, side: int) -> Tensor:
    """Return pixels (n, 3, side, side) of whole levels: shrunk without aliasing, or as they are."""
    if pixels.shape[-1] == side:
        return pixels
    smaller = functional.interpolate(
        pixels, (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    return (smaller * 128).round() / 128
