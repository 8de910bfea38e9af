"""Tracks objects from frame to frame: stable ids, smooth boxes, labels that do not flap.

Method: every track predicts its box with constant velocity, and detections are matched to the
tracks that they overlap, in three rounds:
1. Strong detections, which reach their class's threshold.
2. Weak detections, which keep a track alive when the score drops but never begin one.
3. The remaining strong detections, against boxes enlarged with the time since the last detection
   run, for objects that moved farther than their own size.
A strong detection that is still unmatched begins a track. Matching is greedy, best overlap first.
It differs from the optimal assignment only where two tracks compete for two detections that both
overlap, and there the best overlap is nearly always right; it needs no solver and stays cheap. A
detection of another class may match when the overlap is large: the detector wavers between car and
truck, the object does not.
Box: fixed-gain (alpha-beta) filter of the center with its velocity, exponential average of the
size. Label: the class with the most votes, which are scores that decay over VOTE_S; a challenger
must lead clearly. All rates are per second, not per frame, since frames are skipped all the time.
Life: tentative until `min_hits` detections; then confirmed; lost once a detected frame does not
show it; ended, and reported once more, after `max_lost_s` unseen. A tentative track that is not
found again is dropped without a report.
Sources: ByteTrack (Zhang et al. 2022), two rounds by score; C-BIoU (Yang et al. 2023), enlarged
boxes; T. Benedict and G. Bordner (1962), beta of the alpha-beta filter.
"""

from edge.tracker.tracker import Tracker

__all__ = ["Tracker"]
