"""The foot point of an object, and whether it is inside a polygon."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.geometry import contains, foot_point
from edge.values import Box

WHOLE_FRAME = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LOWER_RIGHT = ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0))
HORSESHOE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.6, 0.9), (0.6, 0.4), (0.4, 0.4), (0.1, 0.9))
SHARES = st.floats(0, 1)


def test_foot_point_is_the_middle_of_the_lower_edge():
    assert foot_point(Box(0.25, 0.25, 0.5, 0.25)) == (0.5, 0.5)


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(0, 2), st.floats(0, 2))
def test_zone_covering_the_frame_contains_every_object(
    x: float, y: float, width: float, height: float
):
    assert contains(WHOLE_FRAME, foot_point(Box(x, y, width, height)))


def test_object_clipped_by_the_lower_edge_is_in_the_zone_there():
    assert contains(LOWER_RIGHT, foot_point(Box(0.7, 0.4, 0.2, 0.6)))
    assert not contains(LOWER_RIGHT, foot_point(Box(0.1, 0.4, 0.2, 0.6)))


def test_notch_of_a_concave_zone_is_outside():
    assert contains(HORSESHOE, (0.2, 0.5))
    assert not contains(HORSESHOE, (0.5, 0.6))
    assert not contains(HORSESHOE, (0.95, 0.5))


@given(st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=3), st.tuples(SHARES, SHARES))
def test_triangles_agree_with_opencv(triangle: list[tuple[float, float]], point: tuple):
    contour = np.array(triangle, np.float32)
    distance = cv2.pointPolygonTest(contour, tuple(float(v) for v in point), measureDist=True)
    assume(abs(distance) > 1e-3)  # on the edge either answer is right
    assert contains(tuple(triangle), point) == (distance > 0)
