"""Matches detections to tracks by overlap; see `edge.tracker`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.geometry import iou_matrix
from edge.values import Box

OTHER_LABEL_IOU = 0.5  # a person on a bicycle overlaps it less
_SAME_LABEL_LEAD = 1.0  # no overlap is larger: pairs of the same class are chosen first


def best_pairs(
    tracks: Sequence[tuple[Box, str]],
    detections: Sequence[tuple[Box, str]],
    min_iou: float,
    enlarge: float,
) -> list[tuple[int, int]]:
    """Return index pairs (track, detection), each index once, chosen greedily by overlap.

    Pairs of the same label need `min_iou` and are chosen first; others also need OTHER_LABEL_IOU.
    enlarge: share of a box's size added on every side of all boxes.
    """
    if not tracks or not detections:
        return []
    overlap = iou_matrix(_corners(tracks, enlarge), _corners(detections, enlarge))
    track_labels = np.array([label for _, label in tracks], dtype=object)
    detection_labels = np.array([label for _, label in detections], dtype=object)
    is_same = track_labels[:, None] == detection_labels[None, :]
    is_allowed = overlap >= np.where(is_same, min_iou, max(min_iou, OTHER_LABEL_IOU))
    rank = np.where(is_allowed & (overlap > 0), overlap + _SAME_LABEL_LEAD * is_same, -np.inf)
    pairs: list[tuple[int, int]] = []
    for _ in range(min(rank.shape)):
        track_index, detection_index = divmod(int(rank.argmax()), rank.shape[1])
        if rank[track_index, detection_index] == -np.inf:
            break
        pairs.append((track_index, detection_index))
        rank[track_index, :] = -np.inf
        rank[:, detection_index] = -np.inf
    return pairs


def _corners(boxes: Sequence[tuple[Box, str]], enlarge: float) -> NDArray[np.float64]:
    """Return (n, 4) left, top, right, bottom of the enlarged boxes."""
    table = np.array([box for box, _ in boxes], dtype=np.float64)
    margin = enlarge * table[:, 2:]
    return np.concatenate([table[:, :2] - margin, table[:, :2] + table[:, 2:] + margin], axis=1)
