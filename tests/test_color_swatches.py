from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("matplotlib", reason="the color survey: pip install 'edge-camera[tools]'")

import torch

from edge.color import TERMS
from tools.color.pixels.naming import plain_shares
from tools.train import color_swatches
from tools.train.color_augment import Augmentation, augment


def shares(*rgb: int) -> dict[str, float]:
    """Return the color terms with a share in the common naming of a plain color."""
    levels = np.array([[rgb]], np.float32) / 255
    (row,) = plain_shares(cv2.cvtColor(levels, cv2.COLOR_RGB2LAB)[0])
    return {term: float(share) for term, share in zip(TERMS, row, strict=True) if share > 0}


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"), ((255, 255, 255), "white"), ((128, 128, 128), "gray"),
        ((165, 165, 165), "gray"), ((230, 232, 230), "white"), ((40, 40, 44), "black"),
        ((255, 192, 203), "pink"), ((255, 0, 0), "red"), ((255, 140, 0), "orange"),
        ((255, 255, 0), "yellow"), ((0, 128, 0), "green"), ((0, 0, 128), "blue"),
        ((128, 0, 128), "purple"), ((139, 69, 19), "brown"), ((210, 180, 140), "brown"),
    ],
)  # fmt: skip
def test_plain_color_has_its_common_name(rgb: tuple[int, int, int], name: str) -> None:
    found = shares(*rgb)
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda term: found[term]) == name


def test_between_two_grays_names_are_shared() -> None:
    assert set(shares(75, 75, 75)) == {"black", "gray"}
    assert set(shares(187, 187, 187)) == {"gray", "white"}


def test_swatches_show_their_color_and_every_term_as_often() -> None:
    packed = color_swatches.pack(110, 24, seed=3)
    assert packed.rgb.shape == (110, 24, 24, 3)
    assert np.bincount(packed.shares.argmax(1)).tolist() == [10] * len(TERMS)
    assert packed.steady.all()
    middle = packed.rgb[:, 11:13, 11:13].mean((1, 2)).astype(np.float32) / 255
    seen = plain_shares(cv2.cvtColor(middle[None], cv2.COLOR_RGB2LAB)[0])
    np.testing.assert_allclose(seen, packed.shares, atol=0.35)  # of levels that were rounded
    assert np.abs(seen - packed.shares).mean() < 0.01


def test_swatches_depend_on_nothing_but_the_seed() -> None:
    first, again, other = (color_swatches.pack(22, 16, seed).rgb for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert color_swatches.pack(0, 16, 3).rgb.shape == (0, 16, 16, 3)


def test_steady_crop_is_exempt_from_light_augmentation() -> None:
    levels = torch.full((40, 20, 20, 3), 165, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(40, 1)
    steady = torch.arange(40) < 20
    torch.manual_seed(1)
    seen = augment(levels, boxes, 16, Augmentation(), steady) * 128 + 128
    means = seen.mean((1, 2, 3))
    torch.testing.assert_close(means[:20], torch.full((20,), 165.0), atol=1.5, rtol=0)
    assert float((means[20:] - 165).abs().max()) > 15
