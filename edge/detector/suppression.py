"""Merges overlapping candidates of a class into one box per object."""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import NOTHING, Candidates, Floats, Indices
from edge.geometry import iou_matrix

MAX_DETECTIONS = 300
MAX_CANDIDATES = 1000  # the cost is quadratic
DOUBTFUL_IOU = 0.5  # above this overlap, two boxes may show the same object
VOTING_IOU = 0.7  # above this overlap, a candidate contributes to its object's box
_FAR_PX = 1e6  # bound on the coordinates of third-party float models


def suppress(
    candidates: Candidates, max_iou: float, min_score: float
) -> tuple[Candidates, Indices]:
    """Return at most `MAX_DETECTIONS` objects, best first, and the index of each best candidate.

    A candidate that overlaps a better object of its class by more than max_iou is the same object.
    Above `DOUBTFUL_IOU` it may be another object behind it: its score is multiplied by 1 - IoU.
    Scores that fall below min_score are dropped. An object's box is the mean of the candidates of
    its class that overlap its best one by more than `VOTING_IOU`, weighted by their scores.
    max_iou: 0..1; 1 keeps every candidate unchanged. min_score: 0..1.
    Source: linear soft-NMS (Bodla et al. 2017), box voting (Gidaris & Komodakis 2015, section 5).
    """
    if not len(candidates.scores):
        return NOTHING, np.empty(0, np.intp)
    order = np.argsort(-candidates.scores, kind="stable")[:MAX_CANDIDATES]
    if max_iou >= 1:
        order = order[:MAX_DETECTIONS]
        return Candidates(
            candidates.scores[order], candidates.classes[order], candidates.corners[order]
        ), order
    scores, classes = candidates.scores[order], candidates.classes[order]
    corners = np.clip(candidates.corners[order], -_FAR_PX, _FAR_PX)
    overlap = iou_matrix(corners, corners) * (classes[:, None] == classes[None, :])
    np.fill_diagonal(overlap, 1)  # also for a box without area
    doubt = np.where(overlap > DOUBTFUL_IOU, 1 - overlap, 1)
    kept, final = _greedy(scores, np.where(overlap > max_iou, 0, doubt), min_score)
    votes = scores * (overlap[kept] > VOTING_IOU)
    merged: Floats = votes @ corners / votes.sum(1, keepdims=True)
    return Candidates(final, classes[kept], merged), order[kept]


def _greedy(scores: Floats, factors: Floats, min_score: float) -> tuple[Indices, Floats]:
    """Return the kept candidates, greedily chosen best first, and their final scores.

    factors: (n, n), by which the score of the column is multiplied once the row is chosen.
    """
    remaining = scores.copy()
    kept: list[int] = []
    final: list[np.float32] = []
    while len(kept) < MAX_DETECTIONS:
        best = int(remaining.argmax())
        score = remaining[best]
        if score < np.float32(min_score) or score <= 0:
            break
        kept.append(best)
        final.append(score)
        remaining *= factors[best]
    return np.array(kept, np.intp), np.array(final, np.float32)
