"""Replaces the first SiLU of a detector's stem by a ReLU, with little change of its output.

Each channel's SiLU is approximated by gain x ReLU(value - knee) + offset, by least squares on
training pictures; a channel whose values stay near zero, where SiLU is almost linear, gets a knee
below all its values. Gain and knee are folded into the convolution, the offset into the next bias.
Then the stem alone is trained to reproduce the original stem's output, and all channels are scaled
to one range, which a ReLU permits: the next convolution undoes the scaling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.values import Image
from tools.architectures import yolox
from tools.progress import track
from tools.quantize.ranges import PIXELS, batches
from tools.train.steps import relative_adam

STEPS = 800
LEARNING_RATE = 1e-3  # relative to each tensor's root mean square
_BATCH = 8
_KNEES = 200  # tried for each channel
_SAMPLES = 200_000  # values per channel that a fit uses


def rectified(net: yolox.YoloxNano, images: Sequence[Image], steps: int = STEPS) -> yolox.YoloxNano:
    """Return a copy of the network with a rectified stem; all other layers are unchanged.

    net: with an ungrouped stem and SiLU. images: training pictures, uint8 (height, width, 3),
    letterboxed, all of one size. steps: of training the stem, each on _BATCH images.
    """
    made = yolox.YoloxNano(labels=net.labels, is_rectified=True)
    made.load_state_dict(net.state_dict())
    (branch,) = made.backbone.stem.branches
    (original,) = net.backbone.stem.branches
    blocks = [net.backbone.stem.rearrange(batch) for batch in batches(images, PIXELS, _BATCH)]
    with torch.no_grad():
        _fit(branch, original, blocks)
        _scale_to_one_range(branch, blocks)
    _adapt(branch, original, blocks, steps)
    with torch.no_grad():
        _scale_to_one_range(branch, blocks)
    return made.eval()


def _fit(branch: nn.Module, original: nn.Module, blocks: Sequence[Tensor]) -> None:
    """Fold the fitted gain, knee and offset of each channel into the branch's two convolutions."""
    first, second = branch[0][0], branch[1][0]  # type: ignore[index]
    values = torch.cat([original[0][0](batch).transpose(0, 1).flatten(1) for batch in blocks], 1)  # type: ignore[index]
    values = values[:, :: max(1, values.shape[1] // _SAMPLES)]
    for channel, seen in enumerate(values):
        gain, knee, offset = fit_relu(seen)
        first.weight[channel] *= gain
        first.bias[channel] = gain * (first.bias[channel] - knee)
        second.bias[channel] += offset * second.weight[channel].sum()


def fit_relu(values: Tensor) -> tuple[float, float, float]:
    """Return gain, knee and offset of the ReLU that best fits SiLU on these values, (n,)."""
    wanted = functional.silu(values)
    low, high = values.aminmax()
    best = (float("inf"), 1.0, 0.0, 0.0)
    for knee in torch.linspace(float(low), float(low + 0.9 * (high - low)), _KNEES).tolist():
        rectified_values = (values - knee).clamp(min=0)
        centered = rectified_values - rectified_values.mean()
        gain = float((centered * wanted).sum() / centered.square().sum().clamp(min=1e-9))
        offset = float(wanted.mean() - gain * rectified_values.mean())
        error = float((gain * rectified_values + offset - wanted).square().sum())
        if gain > 0 and error < best[0]:
            best = (error, gain, knee, offset)
    return best[1:]


def _scale_to_one_range(branch: nn.Module, blocks: Sequence[Tensor]) -> None:
    """Scale the first convolution's channels to a maximum of 1; undo it in the second one."""
    first, second = branch[0][0], branch[1][0]  # type: ignore[index]
    largest = torch.stack([branch[0](batch).amax((0, 2, 3)) for batch in blocks]).amax(0)  # type: ignore[index]
    scale = largest.clamp(min=1e-6)
    first.weight /= scale[:, None, None, None]
    first.bias /= scale
    second.weight *= scale[:, None, None, None]


def _adapt(branch: nn.Module, original: nn.Module, blocks: Sequence[Tensor], steps: int) -> None:
    """Train the branch to reproduce the original's output; errors are per standard deviation."""
    with torch.no_grad():
        wanted = [original(batch) for batch in blocks]
        spread = torch.stack([each.std((0, 2, 3)) for each in wanted]).mean(0)[:, None, None]
    optimizer = relative_adam(branch, LEARNING_RATE)
    for step in track(range(steps), "rectifying the stem"):
        row = step % len(blocks)
        error = ((branch(blocks[row]) - wanted[row]) / spread).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
