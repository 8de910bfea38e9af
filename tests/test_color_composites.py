from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

from edge.color import TERMS
from edge.swatch import terms_of
from tools.color.data import arrays
from tools.color.data.dataset import ColorItem
from tools.train import color_composites

COLORS = {"red": (30, 30, 190), "blue": (190, 60, 20), "yellow": (20, 210, 230)}  # BGR
BACK = (60, 140, 60)


def scene(folder: Path, term: str, shares: dict[str, float] | None = None) -> ColorItem:
    """Draw a disc of a color on noisy grass."""
    rng = np.random.default_rng(len(term))
    bgr = np.full((160, 200, 3), BACK, np.uint8)
    cv2.circle(bgr, (100, 80), 50, COLORS[term], cv2.FILLED)
    noisy = bgr + rng.normal(0, 6, bgr.shape)
    file = folder / f"{term}.png"
    cv2.imwrite(str(file), noisy.clip(0, 255).astype(np.uint8))
    share = shares or {term: 1.0}
    target = tuple(share.get(name, 0.0) for name in TERMS)
    return ColorItem(file, (45, 25, 110, 110), "more", term, target, 1.0, "car", is_sure=True)


def test_a_composite_shows_the_color_that_its_target_names(tmp_path: Path) -> None:
    items = [scene(tmp_path, term) for term in COLORS]
    packed = color_composites.pack(items, 30, 96, 0.15, 1, tmp_path / "cache")
    assert packed.rgb.shape == (30, 96, 96, 3)
    assert packed.shares.sum(1) == pytest.approx(np.ones(30))
    names = packed.shares.argmax(1)
    assert {TERMS[name] for name in names} == set(COLORS)
    disc = terms_of(packed.rgb[:, 36:60, 36:60])
    shown = (disc == names[:, None, None]).mean((1, 2))
    assert (shown > 0.9).all()
    assert (packed.classes == arrays.class_index("car")).all()
    corners = packed.rgb[:, :8, :8].reshape(30, -1, 3).mean(1)
    assert (corners.argmax(1) == 1).all()  # grass is green in any of the lights


def test_only_the_share_of_the_label_changes(tmp_path: Path) -> None:
    mixed = {"red": 0.75, "black": 0.25}
    items = [scene(tmp_path, "red", mixed), scene(tmp_path, "blue")]
    packed = color_composites.pack(items, 20, 64, 0.15, 1, tmp_path / "cache")
    black = packed.shares[:, TERMS.index("black")]
    assert set(black.tolist()) == {0.0, 0.25}
    assert set(packed.shares[black > 0].max(1).tolist()) == {0.75}


def test_same_seed_gives_the_same_crops_with_and_without_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [scene(tmp_path, term) for term in COLORS]
    first, other, third = (
        color_composites.pack(items, 9, 64, 0.15, seed, tmp_path / cache)
        for seed, cache in ((1, "a"), (1, "b"), (2, "b"))
    )
    assert (first.rgb == other.rgb).all()
    assert (first.rgb != third.rgb).any()
    monkeypatch.setattr(color_composites, "_composites", None)
    again = color_composites.pack(items, 9, 64, 0.15, 1, tmp_path / "a")
    assert (again.rgb == first.rgb).all()


def test_other_labels_of_the_same_crops_make_other_composites(tmp_path: Path) -> None:
    red, blue = scene(tmp_path, "red"), scene(tmp_path, "blue")
    shared = tuple({"blue": 0.75, "black": 0.25}.get(name, 0.0) for name in TERMS)
    for other, shares in ((replace(blue, shares=shared), {1.0, 0.75}), (blue, {1.0})):
        packed = color_composites.pack([red, other], 20, 64, 0.15, 1, tmp_path / "cache")
        assert set(packed.shares.max(1).tolist()) == shares
    unsure = [replace(red, is_sure=False), blue]
    packed = color_composites.pack(unsure, 20, 64, 0.15, 1, tmp_path / "cache")
    assert len(packed.rgb) == len(TERMS)  # of blue alone


def test_crops_that_do_not_show_their_color_are_not_used(tmp_path: Path) -> None:
    red, blue = scene(tmp_path, "red"), scene(tmp_path, "blue")
    wrong = ColorItem(
        red.file, red.box_px, "more", "white", red.shares, 1.0, "car", is_sure=True
    )  # in a light in which no pixel is white
    unsure = ColorItem(blue.file, blue.box_px, "more", "blue", blue.shares, 1.0, "car")
    packed = color_composites.pack([wrong, unsure], 9, 64, 0.15, 1, tmp_path / "cache")
    assert len(packed.rgb) == 0


def test_composites_are_appended_to_the_crops(tmp_path: Path) -> None:
    items = [scene(tmp_path, term) for term in COLORS]
    plain = arrays.pack(items, 64, 0.15)
    made = color_composites.pack(items, 5, 64, 0.15, 1, tmp_path / "cache")
    joined = arrays.joined(plain, made)
    assert (joined.rgb == np.concatenate([plain.rgb, made.rgb])).all()
    assert len(joined.weights) == len(joined.classes) == len(joined.boxes) == 8
    none = color_composites.pack(items, 0, 64, 0.15, 1, tmp_path / "cache")
    assert arrays.joined(plain, none) is plain
