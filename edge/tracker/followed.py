"""The state of one track: its filter, its votes and its life; see `edge.tracker`."""

from __future__ import annotations

import math

from edge.config import TrackerConfig
from edge.values import Box, Detection, Track, TrackState

TENTATIVE_S = 0.5  # a tentative track unseen for longer is dropped
REFERENCE_S = 0.1  # `smoothing` is the newest box's weight at this interval between frames
COAST_S = 1.0  # longest time that a track moves by prediction alone
MIN_INTERVAL_S = 0.03  # frames closer in time give no reliable speed
VOTE_S = 3.0  # time in which a vote decays to 1/e
MAX_VOTE_GAP_S = 1.0  # votes decay by no more than this time while the object is unseen
VOTE_LEAD = 1.3  # votes a challenger needs, as a multiple of the current label's


class Followed:
    """The internal state of a track: filter, votes and life."""

    def __init__(self, track_id: int, detection: Detection, now_s: float, min_hits: int) -> None:
        self.track_id = track_id
        self.label = detection.label
        self.measured = detection.box_px
        self.box_px = detection.box_px
        self.state = TrackState.CONFIRMED if min_hits <= 1 else TrackState.TENTATIVE
        self.first_seen_s = self.last_seen_s = now_s
        self.is_forgotten = False
        self._score = detection.score
        self._hits = 1
        self._velocity = (0.0, 0.0)
        self._seen_box = detection.box_px
        self._unseen_s = 0.0  # time that counts towards `max_lost_s`
        self._since_seen_s = 0.0  # time since the last detection
        self._has_missed = False
        self._votes = {detection.label: detection.score}

    def advance(self, elapsed_s: float) -> None:
        """Move on with constant velocity, for COAST_S at most."""
        moving_s = max(0.0, min(elapsed_s, COAST_S - self._since_seen_s))
        self._unseen_s += elapsed_s
        self._since_seen_s += elapsed_s
        self.box_px = _moved(self.box_px, self._velocity, moving_s)

    def stay(self, elapsed_s: float) -> None:
        """Stay in place without ageing."""
        self._velocity = (0.0, 0.0)
        self._since_seen_s += elapsed_s

    def see(self, detection: Detection, now_s: float, config: TrackerConfig) -> None:
        """Update the track with a detection of its object."""
        self._filter(detection.box_px, config.smoothing)
        self._vote(detection)
        self.measured, self._score, self.last_seen_s = detection.box_px, detection.score, now_s
        self._hits += 1
        self._unseen_s = self._since_seen_s = 0.0
        self._has_missed = False
        if self._hits >= config.min_hits:
            self.state = TrackState.CONFIRMED

    def miss_unless_seen(self, now_s: float) -> None:
        """Record that the detector ran on a frame without finding this object."""
        if self.last_seen_s == now_s:
            return
        self._has_missed = True
        if self.state is TrackState.CONFIRMED:
            self.state = TrackState.LOST

    def end_if_unseen(self, max_lost_s: float) -> None:
        """End the track when the detector missed it and it has been unseen for too long."""
        is_tentative = self.state is TrackState.TENTATIVE
        limit_s = TENTATIVE_S if is_tentative else max_lost_s
        if self._has_missed and self._unseen_s > limit_s:
            self.state = TrackState.ENDED
            self.is_forgotten = is_tentative

    def value(self) -> Track:
        """Return the track for other stages; out of sight, its box is where it was last seen."""
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
        """Move the box towards a measurement, which weighs more the longer it was unseen."""
        since_s = self._since_seen_s
        alpha = 1 - (1 - smoothing) ** max(1.0, since_s / REFERENCE_S)
        beta = 1.0 if self._hits == 1 else alpha * alpha / (2 - alpha)
        (x, y), (measured_x, measured_y) = self.box_px.center, measured.center
        error_x, error_y = measured_x - x, measured_y - y
        gain = beta / max(since_s, MIN_INTERVAL_S)
        speed_x, speed_y = self._velocity
        self._velocity = (speed_x + gain * error_x, speed_y + gain * error_y)
        width = self.box_px.width + alpha * (measured.width - self.box_px.width)
        height = self.box_px.height + alpha * (measured.height - self.box_px.height)
        left, top = x + alpha * error_x - width / 2, y + alpha * error_y - height / 2
        filtered = Box(left, top, width, height)
        self.box_px = self._seen_box = _within(filtered, self._seen_box, measured)

    def _vote(self, detection: Detection) -> None:
        keep = math.exp(-min(self._since_seen_s, MAX_VOTE_GAP_S) / VOTE_S)
        self._votes = {label: votes * keep for label, votes in self._votes.items()}
        self._votes[detection.label] = self._votes.get(detection.label, 0.0) + detection.score
        leader = max(self._votes, key=lambda label: self._votes[label])
        if self._votes[leader] > VOTE_LEAD * self._votes[self.label]:
            self.label = leader


def _moved(box: Box, velocity: tuple[float, float], for_s: float) -> Box:
    return Box(box.x + velocity[0] * for_s, box.y + velocity[1] * for_s, box.width, box.height)


def _within(box: Box, first: Box, second: Box) -> Box:
    """Return a box with each edge kept between the same edges of two others.

    So the filter's overshoot at the frame's border never leaves the frame.
    """
    return Box.of_corners(*map(_clamped, box.corners, first.corners, second.corners))


def _clamped(value: float, first: float, second: float) -> float:
    return min(max(value, min(first, second)), max(first, second))
