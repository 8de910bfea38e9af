"""Ranges of tensors: as wide as their values, no wider."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tools.quantize.ranges import from_range  # noqa: E402


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-3.0, 1.0), (2.0, 5.0), (-4.0, -1.0), (-900.0, 100.0)]
)
def test_a_range_is_as_wide_as_it_must_be(low: float, high: float) -> None:
    found = from_range(low, high)
    half = found.scale / 2
    assert found.low == pytest.approx(min(low, 0), abs=1.001 * half)
    assert found.high == pytest.approx(max(high, 0), abs=1.001 * half)
    assert found.high - found.low == pytest.approx(max(high, 0) - min(low, 0))
