"""Quantiles of measured times."""

from __future__ import annotations

from collections.abc import Sequence

from edge.budget import nearest_rank

QUANTILES = (0.5, 0.95, 0.99)


def quantiles(times_ms: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 (nearest rank) of times in milliseconds, rounded to a microsecond."""
    ordered = sorted(times_ms)
    return {f"p{round(100 * q)}": round(nearest_rank(ordered, q), 3) for q in QUANTILES}


def cells(row: dict[str, float]) -> str:
    """Return quantiles as right-aligned columns."""
    return "".join(f"{row[name]:>10.3f}" for name in ("p50", "p95", "p99"))
