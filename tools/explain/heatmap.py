"""Class activation maps as pictures.

HiResCAM: each cell of a feature map times the gradient of a score in that very cell, summed over
the channels; negative values are set to zero. Bright regions raised the score. It shows where the
evidence is, at the feature map's resolution, not what it is. Grad-CAM averages the gradients over
all cells, which is wrong for a detection, whose score is read at one of them; behind a global mean,
as in classifiers, both give the same map.
Source: Draelos & Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
neural networks, 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.values import Box, Image
from tools import dataset
from tools.data.entry import pictures_below

OPACITY = 0.45  # of the heat map over the picture
BAR_PX = 22  # height of the caption
MIN_HEIGHT_PX = 224  # smaller pictures are enlarged: a caption must be readable

Floats = NDArray[np.float32]


def hires_cam(layers: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return the map of one or several layers, (height, width) of the first, 0..1.

    layers: activations and gradients of each, both (height, width, channel). What a cell of a
    coarser layer adds to the score is spread over its area. All zero if nothing raises the score.
    """
    height, width = layers[0][0].shape[:2]
    heat = np.zeros((height, width), np.float32)
    for activations, gradients in layers:
        added = (activations * gradients).sum(-1)
        spread = added * (added.size / heat.size)
        heat += np.asarray(cv2.resize(spread, (width, height), interpolation=cv2.INTER_LINEAR))
    heat = np.maximum(heat, 0)
    return np.asarray(heat / heat.max() if heat.max() > 0 else heat, np.float32)


def overlay(bgr: Image, heat: Floats, caption: str, box_px: Box | None = None) -> Image:
    """Return the picture overlaid with the heat map, and a caption below, uint8 (h, w, 3).

    bgr: uint8, (h, w, 3). heat: any size, 0..1; stretched over the picture. box_px: drawn white.
    """
    height, width = bgr.shape[:2]
    grown = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(np.clip(grown, 0, 1) * 255).astype(np.uint8)
    colored = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    mixed = np.asarray(cv2.addWeighted(colored, OPACITY, bgr, 1 - OPACITY, 0), np.uint8)
    if box_px is not None:
        left, top, right, bottom = map(round, box_px.corners)
        cv2.rectangle(mixed, (left, top), (right, bottom), (255, 255, 255), 2)
    return _captioned(_enlarged(mixed), caption)


def pictures(paths: Sequence[Path]) -> Iterator[tuple[Path, Image]]:
    """Yield the pictures of files, and of folders with their subfolders.

    Raises InputError for a file that cannot be read, or when there is no picture.
    """
    found = [one for path in paths for one in (pictures_below(path) if path.is_dir() else [path])]
    if not found:
        raise InputError(f"no picture in {', '.join(map(str, paths))}; name PNG or JPEG files")
    for path in found:
        yield path, dataset.load_file(path)


def file_name(path: Path, label: str) -> str:
    """Name an explained picture: its folder comes first, as folders repeat file names."""
    return f"{path.absolute().parent.name}-{path.stem}-{label}.jpg"


def unused(target: Path, taken: set[Path]) -> Path:
    """Return the target, numbered where an earlier picture of this run took it; add it to these."""
    numbered = (target.with_stem(f"{target.stem}-{number}") for number in count(2))
    free = next(path for path in chain([target], numbered) if path not in taken)
    taken.add(free)
    return free


def _enlarged(bgr: Image) -> Image:
    factor = int(np.ceil(MIN_HEIGHT_PX / bgr.shape[0]))
    if factor <= 1:
        return bgr
    size = (bgr.shape[1] * factor, bgr.shape[0] * factor)
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _captioned(bgr: Image, text: str) -> Image:
    bar = np.zeros((BAR_PX, bgr.shape[1], 3), np.uint8)
    place = (4, BAR_PX - 7)
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([bgr, bar])
