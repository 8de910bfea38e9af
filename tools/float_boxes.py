"""Detections of float networks, which decode without the daemon's decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edge.detector import Candidates
from edge.values import Box, Detection


def detections(
    found: Candidates, corners_px: NDArray[Any], labels: Sequence[str]
) -> list[Detection]:
    """Return what was found; corners_px: (n, 4), left, top, right, bottom in the frame."""
    return [
        Detection(labels[index], float(score), Box(left, top, right - left, bottom - top))
        for index, score, (left, top, right, bottom) in zip(
            found.classes, found.scores, corners_px.tolist(), strict=True
        )
    ]
