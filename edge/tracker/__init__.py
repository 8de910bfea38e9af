"""Follows objects from frame to frame: stable ids, calm boxes, labels that do not flap.

Method: every track predicts its box with constant velocity; detections join the tracks that they
overlap, in three rounds: strong detections (they reach their class's threshold); then weak ones,
which keep a followed object through a moment of doubt but never begin one; then the strong ones
left over against boxes enlarged by the time since the last look, for objects that moved farther
than their own size. What is still left of the strong ones begins a track. Joining is greedy, best
overlap first: it differs from the optimal assignment only where two tracks compete for two
detections that both overlap, and there the best overlap is nearly always right; it needs no solver
and its cost stays small. A detection of another class may join where the overlap is large: the
detector wavers between car and truck, not the object.
Box: fixed-gain (alpha-beta) filter of the center with its velocity, exponential average of the
size. Label: the class with most votes, scores summed and forgotten over VOTE_S; a challenger must
lead clearly. All rates are in seconds, since frames are skipped all the time.
Life: tentative until `min_hits` detections; confirmed; lost once a frame was looked at without
finding it; ended, reported once, after `max_lost_s` unseen. A tentative track that is not found
again just vanishes.
Sources: ByteTrack (Zhang et al. 2022), two rounds by score; C-BIoU (Yang et al. 2023), enlarged
boxes; T. Benedict and G. Bordner (1962), beta of the alpha-beta filter.
"""

from edge.tracker.tracker import Tracker

__all__ = ["Tracker"]
