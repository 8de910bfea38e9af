"""Polygons as shares of the frame: where an object stands and whether it is inside."""

from __future__ import annotations

from edge.values import Box, Point, Polygon


def foot_point(box: Box) -> Point:
    """Return the middle of a box's lower edge: where the object touches the ground."""
    return box.x + box.width / 2, box.y + box.height


def contains(polygon: Polygon, point: Point) -> bool:
    """Return whether a point is inside a polygon; both in the same unit.

    Source: even-odd rule, W. R. Franklin's PNPOLY; a point on an edge may count either way.
    """
    x, y = point
    inside = False
    previous_x, previous_y = polygon[-1]
    for corner_x, corner_y in polygon:
        if (corner_y > y) != (previous_y > y):
            slope = (previous_x - corner_x) / (previous_y - corner_y)
            inside ^= x < corner_x + (y - corner_y) * slope
        previous_x, previous_y = corner_x, corner_y
    return inside
