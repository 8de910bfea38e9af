"""Makes `Detection`s from the decoded outputs of float networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edge.detector import Candidates
from edge.values import Box, Detection


def detections(
    found: Candidates, corners_px: NDArray[Any], labels: Sequence[str]
) -> list[Detection]:
    """Return the detections. corners_px: (n, 4), left, top, right, bottom in frame pixels."""
    return [
        Detection(labels[index], float(score), Box(left, top, right - left, bottom - top))
        for index, score, (left, top, right, bottom) in zip(
            found.classes, found.scores, corners_px.tolist(), strict=True
        )
    ]
