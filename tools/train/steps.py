"""What each step of a detector's training needs, in float and through int8."""

from __future__ import annotations

import math

import torch
from torch import nn


def relative_adam(net: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Return Adam with a rate for each tensor, `learning_rate` of its root mean square.

    Its groups carry `peak`, which `set_rates` multiplies.
    """
    peaks = [
        learning_rate * float(tensor.detach().square().mean().sqrt()) + 1e-7
        for tensor in net.parameters()
    ]
    groups = [
        {"params": [tensor], "lr": peak, "peak": peak}
        for tensor, peak in zip(net.parameters(), peaks, strict=True)
    ]
    return torch.optim.Adam(groups)


def set_rates(optimizer: torch.optim.Adam, factor: float) -> None:
    """Give each of `relative_adam`'s tensors a share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Return the rate's factor: linear rise, then a cosine down to a twentieth."""
    rise = min((step + 1) / warmup_steps, 1.0)
    return rise * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def follow(average: nn.Module, net: nn.Module, step: int, most: float) -> None:
    """Move the average towards the network; it keeps `most` of itself, less in the first steps."""
    keep = min(most, (1 + step) / (10 + step))
    with torch.no_grad():
        for own, current in zip(average.parameters(), net.parameters(), strict=True):
            own.lerp_(current, 1 - keep)
