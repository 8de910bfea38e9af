"""Which detection continues which track."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.tracker.association import best_pairs
from edge.values import Box


def test_greedy_matching_takes_the_best_overlap_first():
    tracks = [(Box(0, 0, 10, 10), "a"), (Box(4, 0, 10, 10), "a")]
    found = [(Box(3, 0, 10, 10), "a"), (Box(20, 0, 10, 10), "a")]
    assert best_pairs(tracks, found, 0.2, 0.0) == [(1, 0)]


SMALL = st.builds(Box, *[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2)


@given(SMALL, SMALL)
def test_boxes_are_matched_from_min_iou_on(first: Box, second: Box):
    pairs = best_pairs([(first, "a")], [(second, "a")], 0.25, 0.0)
    assert pairs == ([(0, 0)] if first.iou(second) >= 0.25 else [])


def test_second_box_over_a_matched_track_is_left_over():
    tracks = [(Box(0, 0, 10, 10), "a"), (Box(90, 0, 10, 10), "a")]
    found = [(Box(0, 0, 10, 10), "a"), (Box(2, 0, 10, 10), "a")]
    assert best_pairs(tracks, found, 0.2, 0.0) == [(0, 0)]


@pytest.mark.parametrize(
    ("height", "min_iou", "is_pair"), [(5, 0.2, True), (4.9, 0.2, False), (5, 0.6, False)]
)
def test_boxes_of_other_labels_are_matched_only_where_most_overlaps(
    height: float, min_iou: float, *, is_pair: bool
):
    tracks, found = [(Box(0, 0, 10, 10), "a")], [(Box(0, 0, 10, height), "b")]
    assert best_pairs(tracks, found, min_iou, 0.0) == ([(0, 0)] if is_pair else [])


def test_box_of_the_same_label_is_preferred_to_one_that_overlaps_more():
    tracks = [(Box(0, 0, 10, 10), "a")]
    found = [(Box(0, 0, 10, 10), "b"), (Box(0, 0, 10, 3), "a")]
    assert best_pairs(tracks, found, 0.2, 0.0) == [(0, 1)]


@pytest.mark.parametrize(("x", "y", "is_pair"), [(140, 0, True), (0, 14, True), (0, 140, False)])
def test_boxes_are_enlarged_by_a_share_of_each_side(x: int, y: int, *, is_pair: bool):
    tracks, found = [(Box(0, 0, 100, 10), "a")], [(Box(x, y, 100, 10), "a")]
    assert best_pairs(tracks, found, 0.1, 0.0) == []
    assert best_pairs(tracks, found, 0.1, 0.5) == ([(0, 0)] if is_pair else [])


def test_touching_boxes_are_not_matched_even_at_min_iou_zero():
    assert best_pairs([(Box(0, 0, 9, 9), "a")], [(Box(9, 0, 9, 9), "a")], 0.0, 0.0) == []
