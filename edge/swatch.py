"""The swatch of a named color on an object: sRGB and CIELAB of the pixels that have the name.

Method: each pixel gets the basic color term of its sRGB value from a table (`assets/
color-names.npy`, 32 steps a channel, made by `tools.color.name_table` from the XKCD color survey).
The swatch is the median, channel by channel, of the pixels that have the term and lie in cells of
the picture that the model counts as evidence for the term. When no such pixel exists, because of
the light (a white van at dusk is gray in the picture), the cells alone decide.
Reading it: a swatch is what the camera saw, not what the paint would be in daylight.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]
Lab = tuple[float, float, float]

TABLE_FILE = Path(__file__).with_name("assets") / "color-names.npy"
STEPS = 32  # of the table for each channel
_SHIFT = 3  # levels to steps
# Linear sRGB to XYZ under D65, each row divided by the white point. Source: IEC 61966-2-1.
_TO_XYZ = (
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)


@cache
def _table() -> NDArray[np.uint8]:
    """Return the table of terms, as indices of `edge.color.TERMS`, by red, green and blue step."""
    table: NDArray[np.uint8] = np.load(TABLE_FILE)
    return table


def terms_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each pixel's term as an index of `edge.color.TERMS`; (…, 3) in, (…) out."""
    steps = rgb >> _SHIFT
    terms: NDArray[np.uint8] = _table()[steps[..., 0], steps[..., 1], steps[..., 2]]
    return terms


def swatch(
    rgb: NDArray[np.uint8],
    terms: NDArray[np.uint8],
    term: int,
    evidence: NDArray[np.int8] | None = None,
) -> Rgb | None:
    """Return the median of the pixels that have a term and lie in cells with evidence for it.

    rgb: uint8, (side, side, 3); terms: `terms_of(rgb)`.
    evidence: int8, (cells, cells), the model's evidence for the term; cells that reach the mean
        count. With None all cells count, and the result is None when no pixel has the term.
    """
    is_chosen = terms == term
    if evidence is not None:
        is_supported = _spread(evidence >= evidence.mean(), rgb.shape[:2])
        both = is_chosen & is_supported
        is_chosen = both if both.any() else is_supported
    pixels = rgb[is_chosen]
    if not len(pixels):
        return None
    middle = len(pixels) // 2
    # Faster than np.sort, and than np.median, which averages two.
    red, green, blue = np.partition(pixels, middle, axis=0)[middle].tolist()
    return red, green, blue


def _spread(cells: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return each pixel's cell value, bool of `shape` (height, width)."""
    rows, columns = (
        np.arange(side) * n // side for side, n in zip(shape, cells.shape, strict=True)
    )
    spread: NDArray[np.bool_] = cells[rows][:, columns]
    return spread


def lab_of(rgb: Rgb) -> Lab:
    """Return CIELAB under D65 of an sRGB color, one decimal. Source: CIE 15, IEC 61966-2-1."""
    linear = [_linear(level / 255) for level in rgb]
    x, y, z = (_cube_root(sum(a * b for a, b in zip(row, linear, strict=True))) for row in _TO_XYZ)
    return round(116 * y - 16, 1), round(500 * (x - y), 1), round(200 * (y - z), 1)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _cube_root(value: float) -> float:
    return (
        float(value ** (1 / 3)) if value > (6 / 29) ** 3 else value / (3 * (6 / 29) ** 2) + 4 / 29
    )
