"""A square convolution as two oblong ones, for kernels that nearly allow it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from scipy.linalg import qr
from torch import Tensor
from torch.nn import functional

_ROUNDS = 60  # of alternating least squares; 8 channels of the detector's stem need about 30


def patch_covariance(maps: Iterable[Tensor], side: int) -> Tensor:
    """Return the covariance of the values that a kernel of side x side reads, float64.

    maps: float32 (n, c, h, w) each. The result's axes are those of (c, side, side), twice.
    """
    total, mean, count = torch.zeros(()), torch.zeros(()), 0
    for values in maps:
        channels = values.shape[1]
        patches = functional.unfold(values, side).transpose(0, 1).flatten(1).double()
        total, mean = total + patches @ patches.T, mean + patches.sum(1)
        count += patches.shape[1]
    covariance = total / count - torch.outer(mean / count, mean / count)
    return covariance.reshape(channels, side, side, channels, side, side)


def separate(kernels: Tensor, rank: int, covariance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return vertical kernels, (rank, c, h, 1), and the horizontal ones that read their outputs.

    kernels: (n, c, h, w); the horizontal ones are (n, rank, 1, w). Applied one after the other they
    come closest to `kernels`, each of which counts the same: alternating least squares.
    covariance: of the values that a kernel reads, see `patch_covariance`; default: that of noise.
    The vertical outputs are mixed so that each reads one value which the others do not (an
    interpolative decomposition, which rounding hurts least) and all have the same variance.
    """
    count, channels, height, width = kernels.shape
    if covariance is None:
        size = channels * height * width
        covariance = torch.eye(size, dtype=torch.float64).reshape(2 * (channels, height, width))
    read = covariance.permute(2, 0, 1, 5, 3, 4).reshape(2 * (width, channels * height))
    wanted = kernels.double().permute(0, 3, 1, 2).reshape(count, width, channels * height)
    strength = torch.einsum("nia,iajb,njb->n", wanted, read, wanted).clamp(min=1e-12).sqrt()
    each = wanted / strength[:, None, None]
    vertical, horizontal = _alternate(each, read, rank)
    chosen = qr(vertical.numpy(), pivoting=True, mode="r")[1][:rank]
    mixed = torch.linalg.solve(vertical[:, chosen.tolist()], vertical)
    mixed /= torch.einsum("ra,iaib,rb->r", mixed, read, mixed).clamp(min=1e-12).sqrt()[:, None]
    back = vertical @ torch.linalg.pinv(mixed)
    made = torch.einsum("nir,rs,n->nsi", horizontal, back, strength)
    return (
        mixed.reshape(rank, channels, height, 1).to(kernels),
        made[:, :, None, :].to(kernels),
    )


def _alternate(wanted: Tensor, read: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return (rank, a) and (n, w, rank), whose product comes closest to `wanted`, (n, w, a).

    read: covariance of the values that `wanted` weighs, (w, a, w, a).
    """
    count, width, size = wanted.shape
    vertical = torch.linalg.svd(wanted.reshape(-1, size), full_matrices=False)[2][:rank]
    target = torch.einsum("iajb,njb->nia", read, wanted)
    for _ in range(_ROUNDS):
        seen = torch.einsum("ra,iajb,sb->irjs", vertical, read, vertical)
        answers = torch.einsum("ra,nia->nir", vertical, target).reshape(count, -1)
        horizontal = _solve(seen.reshape(2 * (width * rank,)), answers.T).T
        horizontal = horizontal.reshape(count, width, rank)
        used = torch.einsum("nir,njs->irjs", horizontal, horizontal)
        normal = torch.einsum("irjs,iajb->rasb", used, read).reshape(2 * (rank * size,))
        vertical = _solve(normal, torch.einsum("nir,nia->ra", horizontal, target).reshape(-1, 1))
        vertical = vertical.reshape(rank, size)
    return vertical, horizontal


def _solve(normal: Tensor, answers: Tensor) -> Tensor:
    """Solve normal equations that may be singular, slightly regularized."""
    ridge = 1e-9 * normal.diagonal().mean() * torch.eye(len(normal))
    found: Tensor = torch.linalg.solve(normal + ridge, answers)
    return found
