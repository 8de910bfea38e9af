"""Distillation: targets for a training from the answers of trained networks, the teachers.

The teachers' shares are averaged, over each crop and its mirror image. An unlabelled box of
`detection/train` gets the average as its target, a labelled one a mixture of the average and its
labels. For a labelled crop, only teachers that were not trained on it count, if there are any:
with two teachers trained on one half of the pictures each (`--hold-out 0.5`, `--hold-from 0` and
`0.5`), no answer is a memorized label.
Sources: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; for the last point
Wolpert, Stacked Generalization, 1992.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tools.color.data import arrays, dataset
from tools.color.data.dataset import ColorItem
from tools.train.color_answers import logits
from tools.train.color_state import load_network

UNLABELLED_WEIGHT = 0.6
MIN_BOX_PX = 14.0  # longer side of the smallest unlabelled box that is used
CPU = torch.device("cpu")


def taught(
    items: Sequence[ColorItem], data: Path, teachers: Sequence[Path], share: float, cache: Path
) -> list[ColorItem]:
    """Return the items with the teachers' shares mixed into their targets, and unlabelled boxes.

    share: of a labelled item's target that the teachers give.
    Raises InputError for a missing checkpoint.
    """
    further = dataset.unlabelled_items(data, items, MIN_BOX_PX)
    everything = [*items, *further]
    opinions = mean_opinion(everything, teachers, cache)
    mixed = [
        replace(item, shares=_mixed(item.shares, opinion, share))
        for item, opinion in zip(items, opinions, strict=False)
    ]
    return mixed + [
        replace(item, shares=tuple(opinion.tolist()), weight=UNLABELLED_WEIGHT)
        for item, opinion in zip(further, opinions[len(items) :], strict=True)
    ]


def _mixed(
    labels: tuple[float, ...], opinion: NDArray[np.float64], share: float
) -> tuple[float, ...]:
    return tuple((share * opinion + (1 - share) * np.array(labels)).tolist())


def mean_opinion(
    items: Sequence[ColorItem], teachers: Sequence[Path], cache: Path
) -> NDArray[np.float64]:
    """Return the teachers' mean shares, float64 (n, 11), each row summing to 1."""
    counted = np.stack([_unseen(items, path) for path in teachers])
    found = np.stack([_opinion_cached(items, path, cache) for path in teachers])
    counted |= ~counted.any(0)  # all teachers were trained on the item: all count
    opinion: NDArray[np.float64] = (found * counted[..., None]).sum(0) / counted.sum(0)[:, None]
    return opinion


def _unseen(items: Sequence[ColorItem], path: Path) -> NDArray[np.bool_]:
    """Return which items the teacher was not trained on, bool (n,)."""
    config, _ = load_network(path)
    held = [dataset.is_held(item, config.hold_out, config.hold_from) for item in items]
    return np.array([item.weight == 0 or out for item, out in zip(items, held, strict=True)])


def _opinion_cached(items: Sequence[ColorItem], path: Path, cache: Path) -> NDArray[np.float64]:
    """Return a teacher's shares, from the cache when they were computed before."""
    crops = arrays.fingerprint(items) + " ".join(str(item.object_class) for item in items)
    mark = hashlib.sha256(path.read_bytes() + os.fsencode(crops))
    return arrays.cached(
        f"opinion {mark.hexdigest()}", cache, lambda: {"opinion": _opinion(items, path, cache)}
    )["opinion"]


def _opinion(items: Sequence[ColorItem], path: Path, cache: Path) -> NDArray[np.float64]:
    """Return a teacher's shares for each crop as it is and mirrored, averaged."""
    config, network = load_network(path)
    packed = arrays.pack_cached(items, config.architecture.input_px, 0.0, cache)
    mirrored = replace(packed, rgb=np.ascontiguousarray(packed.rgb[:, :, ::-1]))
    plain, flipped = (softmax(logits(network, view, CPU)) for view in (packed, mirrored))
    opinion: NDArray[np.float64] = (plain + flipped) / 2
    return opinion


def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return shares summing to 1 by row."""
    raised = np.exp((values - values.max(1, keepdims=True)).astype(np.float64))
    shares: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return shares
