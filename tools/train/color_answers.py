"""Run a color network in PyTorch on packed crops."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tools.architectures.color import OUTPUT, ColorNet
from tools.color.data.arrays import Packed
from tools.train.color_augment import plain, with_classes


def top1(network: ColorNet, packed: Packed, device: torch.device) -> float:
    """Return the share of crops whose largest logit is the labelled term."""
    guesses = logits(network, packed, device).argmax(1)
    return float((guesses == packed.shares.argmax(1)).mean()) if len(guesses) else 0.0


@torch.no_grad()
def logits(network: ColorNet, packed: Packed, device: torch.device) -> NDArray[np.float32]:
    """Return float32 (n, labels) for crops that are packed at the network's own size."""
    found = []
    for start_row in range(0, len(packed.rgb), 256):
        rows = slice(start_row, start_row + 256)
        pixels = plain(torch.from_numpy(packed.rgb[rows]).to(device))
        classes = torch.from_numpy(packed.classes[rows]).to(device)
        found.append(network(with_classes(pixels, classes, network.classes))[OUTPUT].cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, network.head.out_features), np.float32)
