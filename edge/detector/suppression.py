"""One box an object: candidates of a class that overlap are merged, the best one leads."""

from __future__ import annotations

import numpy as np

from edge.detector.candidates import NOTHING, Candidates, Floats, Indices
from edge.geometry import iou_matrix

MAX_DETECTIONS = 300
MAX_CANDIDATES = 1000  # the cost is quadratic
DOUBTFUL_IOU = 0.5  # from here on two boxes may show one object
VOTING_IOU = 0.7  # from here on a candidate's box says where its object lies, too
_FAR_PX = 1e6  # other people's float models may say anything


def suppress(found: Candidates, max_iou: float, min_score: float) -> tuple[Candidates, Indices]:
    """Return at most `MAX_DETECTIONS` objects, best first, and the best candidate of each.

    A candidate that overlaps a better object of its class by more than max_iou is that object; from
    `DOUBTFUL_IOU` on it may be another one behind it, and its score is multiplied by 1 - IoU.
    What falls below min_score is dropped. An object's box is the mean of the candidates of its
    class that overlap its best one by more than `VOTING_IOU`, weighted by their scores.
    max_iou: 0..1; 1 takes every candidate as it is. min_score: 0..1.
    Source: linear soft-NMS (Bodla et al. 2017), box voting (Gidaris & Komodakis 2015, section 5).
    """
    if not len(found.scores):
        return NOTHING, np.empty(0, np.intp)
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    if max_iou >= 1:
        order = order[:MAX_DETECTIONS]
        return Candidates(found.scores[order], found.classes[order], found.corners[order]), order
    scores, classes = found.scores[order], found.classes[order]
    corners = np.clip(found.corners[order], -_FAR_PX, _FAR_PX)
    overlap = iou_matrix(corners, corners) * (classes[:, None] == classes[None, :])
    np.fill_diagonal(overlap, 1)  # a box without area overlaps itself, too
    doubt = np.where(overlap > DOUBTFUL_IOU, 1 - overlap, 1)
    kept, final = _greedy(scores, np.where(overlap > max_iou, 0, doubt), min_score)
    votes = scores * (overlap[kept] > VOTING_IOU)
    merged: Floats = votes @ corners / votes.sum(1, keepdims=True)
    return Candidates(final, classes[kept], merged), order[kept]


def _greedy(scores: Floats, factors: Floats, min_score: float) -> tuple[Indices, Floats]:
    """Return the best candidate, the best of what it leaves, and so on, with their final scores.

    factors: (n, n), what row's candidate leaves of column's score once it is an object.
    """
    left = scores.copy()
    kept: list[int] = []
    final: list[np.float32] = []
    while len(kept) < MAX_DETECTIONS:
        best = int(left.argmax())
        score = left[best]
        if score < np.float32(min_score) or score <= 0:
            break
        kept.append(best)
        final.append(score)
        left *= factors[best]
    return np.array(kept, np.intp), np.array(final, np.float32)
