"""Fewer input channels for kernels that read few combinations of them."""

from __future__ import annotations

import torch
from scipy.linalg import qr
from torch import Tensor


def project_kernels(kernels: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return a projection, (rank, c, 1, 1), and the kernels that read it, (n, rank, h, w).

    Together they come closest to `kernels`, (n, c, h, w), each kernel counting the same: singular
    value decomposition over the input channels. Its basis is changed so that `rank` channels, the
    most different ones, each appear in one projected channel alone (interpolative decomposition);
    thus these are like pixels and have similar ranges: each at most that of one pixel.
    """
    count, channels, height, width = kernels.shape
    flat = kernels.double().permute(0, 2, 3, 1)
    each = flat / flat.square().sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    basis = torch.linalg.svd(each.reshape(-1, channels), full_matrices=False)[2][:rank]
    chosen = qr(basis.numpy(), pivoting=True, mode="r")[1][:rank]
    projection = torch.linalg.solve(basis[:, chosen.tolist()], basis)
    projection /= projection.abs().sum(1, keepdim=True)
    reading = flat.reshape(-1, channels) @ torch.linalg.pinv(projection)
    made = reading.reshape(count, height, width, rank).permute(0, 3, 1, 2)
    return projection[:, :, None, None].to(kernels), made.to(kernels)
