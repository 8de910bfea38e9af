"""Follows objects from frame to frame: stable ids, calm boxes, labels that do not flap.

Method: every track predicts its box with constant velocity; detections join the tracks that they
overlap, in three rounds: strong detections (they reach their class's threshold); then weak ones,
which keep a followed object through a moment of doubt but never begin one; then the strong ones
left over against boxes enlarged by the time since the last look, for objects that moved farther
than their own size. What is still left of the strong ones begins a track. Joining is greedy, best overlap
first: it differs from the optimal assignment only where two tracks compete for two detections
that both overlap, and there the best overlap is nearly always right; it needs no solver and its
cost stays small. A detection of another class may join where the overlap is large: the detector
wavers between car and truck, not the object.
Box: fixed-gain (alpha-beta) filter of the center with its velocity, exponential average of the
size. Label: the class with most votes, scores summed and forgotten over VOTE_S; a challenger must
lead clearly. All rates are in seconds, since frames are skipped all the time.
Life: tentative until `min_hits` detections; confirmed; lost once a frame was looked at without
finding it; ended, reported once, after `max_lost_s` unseen. A tentative track that is not found
again just vanishes.
Sources: ByteTrack (Zhang et al. 2022), two rounds by score; C-BIoU (Yang et al. 2023), enlarged
boxes; T. Benedict and G. Bordner (1962), beta of the alpha-beta filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.config import TrackerConfig
from edge.values import Box, Detection, Track, TrackState

OTHER_LABEL_IOU = 0.5  # a person on a bicycle overlaps it less
DUPLICATE_IOU = 0.8  # one object found as two classes: overlap from which a track is not begun
WEAK_IOU = 0.5  # overlap that a weak detection needs, as in ByteTrack
ENLARGE_PER_S = 1.0  # of width and height, on every side, in the third round
MAX_ENLARGE = 0.5
TENTATIVE_S = 0.5  # unseen for longer, a tentative track vanishes
REFERENCE_S = 0.1  # `smoothing` is the newest box's weight at this distance of frames
COAST_S = 1.0  # nothing goes on at constant speed for longer than this
MIN_INTERVAL_S = 0.03  # frames that come closer say little about speed
VOTE_S = 3.0  # a vote counts 1/e after this time of looking
MAX_VOTE_GAP_S = 1.0  # of a time without looking, votes forget no more than this
VOTE_LEAD = 1.3  # votes a challenger needs, as a multiple of the present label's
_MAX_LABEL_PENALTY = 1.0  # more than any overlap: the same class always joins first

StrongScore = Callable[[str], float]


class Tracker:
    """The objects of one camera; ids count from 1 and are never used again."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._followed: list[_Followed] = []
        self._next_id = 1
        self._now_s = -math.inf

    def update(
        self,
        detections: Sequence[Detection],
        now_s: float,
        strong_score: StrongScore = lambda _: 0.0,
    ) -> list[Track]:
        """Return all tracks after a frame was looked at; ended ones for the last time.

        detections: of this frame, weak ones included. now_s: the frame's time.
        strong_score: per label, the score from which a detection may begin a track.
        """
        elapsed_s = self._advance(now_s)
        strong = [found for found in detections if found.score >= strong_score(found.label)]
        weak = [found for found in detections if found.score < strong_score(found.label)]
        believed = [track for track in self._followed if track.state is not TrackState.TENTATIVE]
        left = self._join(strong, self._followed, now_s, self._config.min_iou)
        self._join(weak, believed, now_s, max(WEAK_IOU, self._config.min_iou))
        enlarge = min(MAX_ENLARGE, ENLARGE_PER_S * elapsed_s)
        left = self._join(left, self._followed, now_s, self._config.min_iou, enlarge=enlarge)
        for track in self._followed:
            track.miss_unless_seen(now_s)
        taken = [track.measured for track in self._followed if track.last_seen_s == now_s]
        for found in left:
            if all(found.box_px.iou(box) < DUPLICATE_IOU for box in taken):
                self._begin(found, now_s)
                taken.append(found.box_px)
        return self._report()

    def predict(self, now_s: float) -> list[Track]:
        """Return all tracks at a moment that nobody looked at; they move on by prediction."""
        self._advance(now_s)
        return self._report()

    def hold(self, now_s: float) -> list[Track]:
        """Return all tracks while nothing moves or looking is paused: seen ones stay in place.

        Lost ones grow older, so that an object that left comes to its end.
        """
        elapsed_s = self._elapsed_s(now_s)
        for track in self._followed:
            track.stay(elapsed_s)
        return self._report()

    def _advance(self, now_s: float) -> float:
        elapsed_s = self._elapsed_s(now_s)
        for track in self._followed:
            track.advance(elapsed_s)
        return elapsed_s

    def _elapsed_s(self, now_s: float) -> float:
        """Return the time since the last call, never negative, and note this one."""
        elapsed_s = max(0.0, now_s - self._now_s) if math.isfinite(self._now_s) else 0.0
        self._now_s = max(self._now_s, now_s)
        return elapsed_s

    def _join(
        self,
        detections: Sequence[Detection],
        tracks: Sequence[_Followed],
        now_s: float,
        min_iou: float,
        *,
        enlarge: float = 0.0,
    ) -> list[Detection]:
        """Give detections to the tracks not yet seen at `now_s`; return those nobody took."""
        open_tracks = [track for track in tracks if track.last_seen_s != now_s]
        pairs = best_pairs(
            [(track.box_px, track.label) for track in open_tracks],
            [(found.box_px, found.label) for found in detections],
            min_iou,
            enlarge,
        )
        for track_index, found_index in pairs:
            open_tracks[track_index].see(detections[found_index], now_s, self._config)
        joined = {found_index for _, found_index in pairs}
        return [found for index, found in enumerate(detections) if index not in joined]

    def _begin(self, found: Detection, now_s: float) -> None:
        self._followed.append(_Followed(self._next_id, found, now_s, self._config.min_hits))
        self._next_id += 1

    def _report(self) -> list[Track]:
        for track in self._followed:
            track.end_if_unseen(self._config.max_lost_s)
        tracks = [track.value() for track in self._followed if not track.is_forgotten]
        self._followed = [track for track in self._followed if track.state is not TrackState.ENDED]
        return tracks


class _Followed:
    """A track's inner state: filter, votes and life."""

    def __init__(self, track_id: int, found: Detection, now_s: float, min_hits: int) -> None:
        self.track_id = track_id
        self.label = found.label
        self.measured = found.box_px
        self.box_px = found.box_px
        self.state = TrackState.CONFIRMED if min_hits <= 1 else TrackState.TENTATIVE
        self.first_seen_s = self.last_seen_s = now_s
        self.is_forgotten = False
        self._score = found.score
        self._hits = 1
        self._velocity = (0.0, 0.0)
        self._seen_box = found.box_px
        self._unseen_s = 0.0  # time that counts towards its end
        self._since_seen_s = 0.0  # time since the last detection
        self._has_missed = False
        self._votes = {found.label: found.score}

    def advance(self, elapsed_s: float) -> None:
        """Move on with constant velocity, for COAST_S at most."""
        moving_s = max(0.0, min(elapsed_s, COAST_S - self._since_seen_s))
        self._unseen_s += elapsed_s
        self._since_seen_s += elapsed_s
        self.box_px = _moved(self.box_px, self._velocity, moving_s)

    def stay(self, elapsed_s: float) -> None:
        """Stand still; grow older only when out of sight."""
        self._velocity = (0.0, 0.0)
        self._since_seen_s += elapsed_s
        if self.state is TrackState.LOST:
            self._unseen_s += elapsed_s

    def see(self, found: Detection, now_s: float, config: TrackerConfig) -> None:
        """Take in a detection of this object."""
        self._filter(found.box_px, config.smoothing)
        self._vote(found)
        self.measured, self._score, self.last_seen_s = found.box_px, found.score, now_s
        self._hits += 1
        self._unseen_s = self._since_seen_s = 0.0
        self._has_missed = False
        if self.state is not TrackState.TENTATIVE or self._hits >= config.min_hits:
            self.state = TrackState.CONFIRMED

    def miss_unless_seen(self, now_s: float) -> None:
        """Note that a frame was looked at without finding this object."""
        if self.last_seen_s == now_s:
            return
        self._has_missed = True
        if self.state is TrackState.CONFIRMED:
            self.state = TrackState.LOST

    def end_if_unseen(self, max_lost_s: float) -> None:
        """End when it was looked for in vain and is unseen for too long."""
        is_tentative = self.state is TrackState.TENTATIVE
        limit_s = min(TENTATIVE_S, max_lost_s) if is_tentative else max_lost_s
        if self._has_missed and self._unseen_s > limit_s:
            self.state = TrackState.ENDED
            self.is_forgotten = is_tentative

    def value(self) -> Track:
        """Return the track for other stages; out of sight, the box is where it was last seen."""
        is_gone = self.state in {TrackState.LOST, TrackState.ENDED}
        return Track(
            track_id=self.track_id,
            label=self.label,
            score=self._score,
            box_px=self._seen_box if is_gone else self.box_px,
            state=self.state,
            first_seen_s=self.first_seen_s,
            last_seen_s=self.last_seen_s,
            hits=self._hits,
        )

    def _filter(self, measured: Box, smoothing: float) -> None:
        """Move the box towards a measurement; the longer unseen, the more that one counts."""
        since_s = self._since_seen_s
        alpha = 1 - (1 - smoothing) ** max(1.0, since_s / REFERENCE_S)
        beta = 1.0 if self._hits == 1 else alpha * alpha / (2 - alpha)
        (x, y), (measured_x, measured_y) = _center(self.box_px), _center(measured)
        error_x, error_y = measured_x - x, measured_y - y
        gain = beta / max(since_s, MIN_INTERVAL_S)
        speed_x, speed_y = self._velocity
        self._velocity = (speed_x + gain * error_x, speed_y + gain * error_y)
        width = self.box_px.width + alpha * (measured.width - self.box_px.width)
        height = self.box_px.height + alpha * (measured.height - self.box_px.height)
        left = x + alpha * error_x - width / 2
        top = y + alpha * error_y - height / 2
        self.box_px = self._seen_box = Box(left, top, width, height)

    def _vote(self, found: Detection) -> None:
        keep = math.exp(-min(self._since_seen_s, MAX_VOTE_GAP_S) / VOTE_S)
        self._votes = {label: votes * keep for label, votes in self._votes.items()}
        self._votes[found.label] = self._votes.get(found.label, 0.0) + found.score
        leader = max(self._votes, key=lambda label: self._votes[label])
        if self._votes[leader] > VOTE_LEAD * self._votes[self.label]:
            self.label = leader


def best_pairs(
    tracks: Sequence[tuple[Box, str]],
    detections: Sequence[tuple[Box, str]],
    min_iou: float,
    enlarge: float,
) -> list[tuple[int, int]]:
    """Return index pairs (track, detection), each index once, chosen greedily by overlap.

    Pairs of the same label need `min_iou` and come first; others need OTHER_LABEL_IOU as well.
    enlarge: share of a box's size added on every side of all boxes.
    """
    if not tracks or not detections:
        return []
    overlap = iou_matrix(_corners(tracks, enlarge), _corners(detections, enlarge))
    labels = np.array([label for _, label in tracks], dtype=object)
    found_labels = np.array([label for _, label in detections], dtype=object)
    is_same = labels[:, None] == found_labels[None, :]
    is_allowed = overlap >= np.where(is_same, min_iou, max(min_iou, OTHER_LABEL_IOU))
    rank = np.where(is_allowed & (overlap > 0), overlap + _MAX_LABEL_PENALTY * is_same, -np.inf)
    pairs: list[tuple[int, int]] = []
    for _ in range(min(rank.shape)):
        track_index, found_index = divmod(int(rank.argmax()), rank.shape[1])
        if rank[track_index, found_index] == -np.inf:
            break
        pairs.append((track_index, found_index))
        rank[track_index, :] = -np.inf
        rank[:, found_index] = -np.inf
    return pairs


def iou_matrix(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of every pair, float64 (len(first), len(second)).

    first, second: float64 (n, 4), corners left, top, right, bottom.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(corners[:, 2:] - corners[:, :2], axis=1) for corners in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.asarray(common / np.maximum(union, np.finfo(np.float64).tiny), dtype=np.float64)


def _corners(boxes: Sequence[tuple[Box, str]], enlarge: float) -> NDArray[np.float64]:
    table = np.array([box for box, _ in boxes], dtype=np.float64)
    margin = enlarge * table[:, 2:]
    return np.concatenate([table[:, :2] - margin, table[:, :2] + table[:, 2:] + margin], axis=1)


def _center(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def _moved(box: Box, velocity: tuple[float, float], for_s: float) -> Box:
    return Box(box.x + velocity[0] * for_s, box.y + velocity[1] * for_s, box.width, box.height)
