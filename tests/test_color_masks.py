from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pip install 'edge-camera[tools]'")

from edge.values import Box
from scenes import BOX_PX, overlap, scene, truth
from tools.color.pixels import masks, naming
from tools.color.pixels.masks import Click

ON, BESIDE = Click(130 / 240, 90 / 180), Click(0.05, 0.1, is_object=False)


def test_box_gives_the_object_inside_it() -> None:
    cut = masks.from_box(scene("red"), BOX_PX)
    assert not cut.is_guess
    assert overlap(cut.mask) > 0.95


def test_one_click_without_a_box_gives_the_object() -> None:
    cut = masks.from_clicks(scene("blue"), [ON])
    assert overlap(cut.mask) > 0.95


def test_click_outside_the_object_removes_that_part() -> None:
    picture = scene("red")
    cv2.rectangle(picture, (20, 130), (130, 170), (40, 30, 200), cv2.FILLED)  # touches the object
    both = masks.from_clicks(picture, [ON])
    assert both.mask[150, 40]
    off = [
        Click(40 / 240, 150 / 180, is_object=False),
        Click(110 / 240, 160 / 180, is_object=False),
    ]
    one = masks.from_clicks(picture, [ON, *off], BOX_PX)
    assert not one.mask[150, 40]
    assert overlap(one.mask) > 0.85


def test_mask_is_the_same_every_time() -> None:
    first = masks.from_clicks(scene("red"), [ON]).mask
    assert np.array_equal(first, masks.from_clicks(scene("red"), [ON]).mask)


def test_object_indistinct_from_its_background_gets_a_guess_in_the_box() -> None:
    flat = np.full((120, 160, 3), 90, np.uint8)
    cut = masks.from_box(flat, Box(40, 30, 80, 60))
    assert cut.is_guess
    assert cut.mask[60, 80]
    assert not cut.mask[:30].any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (5, 5), (40, 7)])
def test_tiny_and_thin_pictures_work(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)
    box_px = Box(0, 0, shape[1], shape[0])
    assert masks.from_box(picture, box_px).mask.shape == shape
    clicks = [Click(0.5, 0.5), Click(1, 1, is_object=False)]
    assert masks.from_clicks(picture, clicks).mask.shape == shape


def test_grow_adds_and_shrink_removes_but_never_everything() -> None:
    mask = truth()
    assert (mask <= masks.grown(mask, 2)).all()
    assert (masks.grown(mask, -2) <= mask).all()
    assert masks.grown(mask, 2).sum() > mask.sum() > masks.grown(mask, -2).sum()
    assert masks.grown(mask, -1000).any()


def test_outlines_enclose_the_mask() -> None:
    (outline,) = masks.outlines(truth())
    drawn = np.zeros(truth().shape, np.uint8)
    points = np.array(outline) * (truth().shape[1], truth().shape[0])
    cv2.fillPoly(drawn, [points.round().astype(np.int32)], 1)
    assert overlap(drawn > 0) > 0.95


def test_clusters_separate_the_surfaces_of_a_two_colored_object() -> None:
    picture = scene("red")
    picture[:, 165:] = np.where(truth()[:, 165:, None], 250, picture[:, 165:])
    found = naming.clusters(picture, truth())
    assert [one.name for one in found[:2]] == ["red", "white"]
    white = truth()[:, 165:].sum() / truth().sum()
    shares = {one.name: one.score for one in naming.term_shares(found)}
    assert shares["white"] == pytest.approx(white, abs=0.05)
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("bgr", "term"),
    [
        ((15, 15, 15), "black"),
        ((245, 245, 245), "white"),
        ((120, 120, 120), "gray"),
        ((30, 30, 200), "red"),
        ((0, 130, 255), "orange"),
        ((20, 230, 250), "yellow"),
        ((40, 140, 30), "green"),
        ((200, 60, 20), "blue"),
        ((90, 30, 20), "blue"),  # navy
        ((160, 30, 120), "purple"),
        ((190, 130, 255), "pink"),
        ((30, 60, 110), "brown"),
        ((130, 165, 205), "brown"),  # tan
    ],
)
def test_plain_colors_have_their_terms(bgr: tuple[int, int, int], term: str) -> None:
    picture = np.full((8, 8, 3), bgr, np.uint8)
    (cluster,) = naming.clusters(picture, np.ones((8, 8), bool))
    assert cluster.name == term


def test_empty_mask_has_no_clusters() -> None:
    assert naming.clusters(scene("red"), np.zeros(truth().shape, bool)) == []


def test_mask_of_one_pixel_has_one_cluster() -> None:
    (cluster,) = naming.clusters(np.full((1, 1, 3), 9, np.uint8), np.ones((1, 1), bool))
    assert (cluster.name, cluster.share) == ("black", 1.0)
