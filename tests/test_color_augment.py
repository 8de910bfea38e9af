from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from color_crops import CPU, SMALL, patches
from tools.train import color as training
from tools.train.color_augment import Augmentation, augment, cut_and_mixed, plain


def test_augmentation_gives_whole_levels_and_switched_off_the_plain_crop() -> None:
    packed = patches(12)
    rgb, boxes = torch.from_numpy(packed.rgb), torch.from_numpy(packed.boxes)
    torch.manual_seed(1)
    levels = augment(rgb, boxes, 32, Augmentation()) * 128 + 128
    torch.testing.assert_close(levels, levels.round())
    assert float(levels.min()) >= 0
    assert float(levels.max()) <= 255
    off = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(12, 1)
    torch.testing.assert_close(augment(rgb, whole, 36, off), plain(rgb))  # flat: mirrored or not


def test_training_passes_on_which_crops_are_exempt_from_light_augmentation() -> None:
    torch.manual_seed(1)
    packed = patches(30)
    pixels = [
        training.inputs(
            SMALL, replace(packed, steady=np.full(30, is_steady)), torch.arange(30), CPU
        )
        for is_steady in (True, False)
    ]
    spread = [float(planes[::3, 0].mean((1, 2)).std()) for planes in pixels]
    assert spread[1] > 1.5 * spread[0]


def test_cutmix_gives_a_rectangle_its_share_of_the_target() -> None:
    torch.manual_seed(4)
    planes = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 40, 40)
    targets = torch.eye(6, 11)
    moved = 0
    for _ in range(20):
        mixed, shares = cut_and_mixed(planes, targets, 0.5)
        assert shares.sum(1).tolist() == pytest.approx([1.0] * 6)
        for row in range(6):
            shown = torch.bincount(mixed[row, 0].flatten().long(), minlength=6) / 1600
            torch.testing.assert_close(shares[row, :6], shown)
            moved += int(shown[row] < 1)
    assert 20 < moved < 80  # half of the crops, but some are mixed with themselves
    same, unchanged = cut_and_mixed(planes, targets, 0.0)
    assert same is planes
    assert unchanged is targets
