"""Train one network of the study with a small budget and measure it, in float and int8."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tools import child, quantize
from tools.benchmark import timing
from tools.color.data import arrays
from tools.color.data.dataset import ColorItem
from tools.color.study.networks import Studied, Vgg16
from tools.color.study.peak import RUNS
from tools.progress import track
from tools.quantize import Quantization

CONTEXT_MARGIN = 0.5  # of the box: a twin's second crop around the object
BATCH = 32
LEARNING_RATE = 1e-3
CALIBRATION_CROPS = 64


@dataclass(frozen=True)
class Crops:
    """Network inputs as levels, uint8 (n, side, side, 3 or 6), and their targets (n, 11)."""

    levels: NDArray[np.uint8]
    shares: NDArray[np.float32]


@dataclass(frozen=True)
class Parts:
    """The crops for training, for validation and for the final test."""

    train: Crops
    validation: Crops
    test: Crops


@dataclass(frozen=True)
class Row:
    """One network's row of the table.

    float_ms: in PyTorch, int8_ms: in TFLite; the two are not comparable with each other.
    loss: cross entropy with the labels; accuracy: top-1; None where it was not trained.
    bytes_int8: of the .tflite file; peak_mb: memory of a process that runs it, less that of one
        that only loads the runtime.
    """

    weights: int
    bytes_int8: int
    float_ms: float
    int8_ms: float
    peak_mb: float
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    seconds: float


def crops(items: Sequence[ColorItem], studied: Studied, cache: Path) -> Crops:
    """Return the items' crops at a network's size, for a twin with their surroundings."""
    seen = arrays.pack_cached(items, studied.side_px, 0.0, cache)
    if not studied.is_twin:
        return Crops(seen.rgb, seen.shares)
    around = arrays.pack_cached(items, studied.side_px, CONTEXT_MARGIN, cache)
    return Crops(np.concatenate([seen.rgb, around.rgb], axis=3), seen.shares)


def measure(studied: Studied, network: nn.Module, parts: Parts, epochs: int, folder: Path) -> Row:
    """Return a network's row; with 0 epochs only size and time are measured.

    folder: where the .tflite file is written.
    """
    start = time.monotonic()
    if epochs:
        train(network, parts.train, epochs)
    losses = [
        score(network, part) if epochs else (None, None) for part in (parts.validation, parts.test)
    ]
    network.eval()
    path = folder / "model.tflite"
    shape = (parts.train.levels.shape[3], studied.side_px, studied.side_px)
    images = list(parts.train.levels[:CALIBRATION_CROPS])
    quantize.export(network, images, path, shape, pixels=Quantization(1 / 128, 0))
    int8 = json.loads(_child(str(path)))
    idle = json.loads(_child())
    return Row(
        weights=sum(weight.numel() for weight in network.parameters()),
        bytes_int8=path.stat().st_size,
        float_ms=_float_ms(network, parts.train.levels[:1]),
        int8_ms=int8["median_ms"],
        peak_mb=int8["peak_mb"] - idle["peak_mb"],
        validation_loss=losses[0][0],
        validation_accuracy=losses[0][1],
        test_loss=losses[1][0],
        test_accuracy=losses[1][1],
        seconds=time.monotonic() - start,
    )


def train(network: nn.Module, part: Crops, epochs: int) -> None:
    """Train what is not frozen: AdamW, cosine schedule, mirrored crops; of VGG16 only the head."""
    if isinstance(network, Vgg16):
        part, network = _behind_frozen(network, part)
    steps = epochs * -(-len(part.levels) // BATCH)
    wanted = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(wanted, LEARNING_RATE, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    batches = (
        rows for _ in range(epochs) for rows in torch.split(torch.randperm(len(part.levels)), BATCH)
    )
    for rows in track(batches, "training", steps):
        _step(network, part, rows.numpy(), optimizer)
        schedule.step()
    network.eval()


def _step(
    network: nn.Module, part: Crops, rows: NDArray[np.int64], optimizer: torch.optim.Optimizer
) -> None:
    inputs = _real(part.levels[rows])
    if inputs.dim() == 4:
        mirrored = torch.rand(len(inputs)) < 0.5
        inputs[mirrored] = inputs[mirrored].flip(3)
    loss = functional.cross_entropy(network(inputs), torch.from_numpy(part.shares[rows]))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def _behind_frozen(network: Vgg16, part: Crops) -> tuple[Crops, nn.Module]:
    """Return the frozen layers' features instead of the crops, and the layer to train."""
    network.eval()
    found = [
        network.dense(network.features(_real(part.levels[row : row + 8]))).numpy()
        for row in range(0, len(part.levels), 8)
    ]
    return Crops(np.concatenate(found), part.shares), network.head


@torch.no_grad()
def score(network: nn.Module, part: Crops) -> tuple[float, float]:
    """Return mean cross entropy with the targets, and top-1."""
    network.eval()
    found = [network(_real(part.levels[row : row + 32])) for row in range(0, len(part.levels), 32)]
    logits, shares = torch.cat(found), torch.from_numpy(part.shares)
    hits = logits.argmax(1) == shares.argmax(1)
    return float(functional.cross_entropy(logits, shares)), float(hits.float().mean())


def _real(levels: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    if levels.dtype != np.uint8:
        return torch.from_numpy(levels)
    # Contiguous: see `tools.train.color_augment.with_classes`.
    return (torch.from_numpy(levels).permute(0, 3, 1, 2).contiguous().float() - 128) / 128


@torch.no_grad()
def _float_ms(network: nn.Module, levels: NDArray[np.uint8]) -> float:
    """Return the median time of PyTorch's own runs after a warm-up."""
    inputs = _real(levels)
    return timing.median_ms(lambda: network(inputs), RUNS)


def _child(*words: str) -> str:
    """Run `tools.color.study.peak` in a process of its own and return its output."""
    return child.output_of([sys.executable, "-m", "tools.color.study.peak", *words], "int8 file")
