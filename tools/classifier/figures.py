"""The measurements of one classifier: a row of `edge-tools evaluate classifier`."""

from __future__ import annotations

import msgspec


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements of one model; times in milliseconds, sizes in bytes, shares 0..1."""

    model: str
    level: str
    pictures: int
    loss: float
    accuracy: float
    agreement: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    load_ms: float
    file_bytes: int
    peak_bytes: int
    added_bytes: int
    runtime: str
