"""Matches each frame's detections to the tracks in three rounds; see `edge.tracker`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from edge.config import TrackerConfig
from edge.tracker.association import best_pairs
from edge.tracker.followed import Followed
from edge.values import Detection, Track, TrackState

WEAK_IOU = 0.5  # overlap that a weak detection needs, as in ByteTrack
ENLARGE_PER_S = 1.0  # of width and height, on every side, in the third round
MAX_ENLARGE = 0.5
DUPLICATE_IOU = 0.8  # one object detected as two classes: no track begins from this overlap on

StrongScore = Callable[[str], float]


class Tracker:
    """The tracks of one camera; each takes the next of `ids`, which count from 1 by default."""

    def __init__(self, config: TrackerConfig, ids: Iterator[int] | None = None) -> None:
        self._config = config
        self._ids = itertools.count(1) if ids is None else ids
        self._followed: list[Followed] = []
        self._now_s = self._updated_s = -math.inf

    def use(self, config: TrackerConfig) -> None:
        """Follow by another config from the next frame on."""
        self._config = config

    def clear(self) -> None:
        """Follow none of the objects any longer."""
        self._followed.clear()

    @property
    def has_lost(self) -> bool:
        """Return whether the detector missed an object that is still followed."""
        return any(track.state is TrackState.LOST for track in self._followed)

    def update(
        self,
        detections: Sequence[Detection],
        now_s: float,
        strong_score: StrongScore = lambda _: 0.0,
    ) -> list[Track]:
        """Return all tracks after the detector ran on a frame; ended ones for the last time.

        detections: of this frame, including weak ones. now_s: the frame's time.
        strong_score: per label, the score from which a detection may begin a track.
        """
        self._advance(now_s)
        strong = [item for item in detections if item.score >= strong_score(item.label)]
        weak = [item for item in detections if item.score < strong_score(item.label)]
        established = [track for track in self._followed if track.state is not TrackState.TENTATIVE]
        unmatched = self._match(strong, self._followed, now_s, self._config.min_iou)
        self._match(weak, established, now_s, max(WEAK_IOU, self._config.min_iou))
        enlarge = min(MAX_ENLARGE, ENLARGE_PER_S * (now_s - self._updated_s))
        unmatched = self._match(
            unmatched, self._followed, now_s, self._config.min_iou, enlarge=enlarge
        )
        for track in self._followed:
            track.miss_unless_seen(now_s)
        taken = [track.measured for track in self._followed if track.last_seen_s == now_s]
        for detection in unmatched:
            if all(detection.box_px.iou(box) < DUPLICATE_IOU for box in taken):
                self._begin(detection, now_s)
                taken.append(detection.box_px)
        self._updated_s = now_s
        return self._report()

    def predict(self, now_s: float) -> list[Track]:
        """Return all tracks after a frame without detection; they move on by prediction."""
        self._advance(now_s)
        return self._report()

    def hold(self, now_s: float) -> list[Track]:
        """Return all tracks while nothing moves or detection is paused: they stay in place."""
        elapsed_s = self._elapsed_s(now_s)
        for track in self._followed:
            track.stay(elapsed_s)
        return self._report()

    def _advance(self, now_s: float) -> None:
        elapsed_s = self._elapsed_s(now_s)
        for track in self._followed:
            track.advance(elapsed_s)

    def _elapsed_s(self, now_s: float) -> float:
        """Return the time since the last call, 0 when a file began anew, and record this one's."""
        elapsed_s = max(0.0, now_s - self._now_s)
        self._now_s = now_s
        return elapsed_s

    def _match(
        self,
        detections: Sequence[Detection],
        tracks: Sequence[Followed],
        now_s: float,
        min_iou: float,
        *,
        enlarge: float = 0.0,
    ) -> list[Detection]:
        """Match detections to the tracks not yet seen at `now_s`; return the unmatched ones."""
        open_tracks = [track for track in tracks if track.last_seen_s != now_s]
        pairs = best_pairs(
            [(track.box_px, track.label) for track in open_tracks],
            [(detection.box_px, detection.label) for detection in detections],
            min_iou,
            enlarge,
        )
        for track_index, detection_index in pairs:
            open_tracks[track_index].see(detections[detection_index], now_s, self._config)
        matched = {detection_index for _, detection_index in pairs}
        return [detection for index, detection in enumerate(detections) if index not in matched]

    def _begin(self, detection: Detection, now_s: float) -> None:
        self._followed.append(Followed(next(self._ids), detection, now_s, self._config.min_hits))

    def _report(self) -> list[Track]:
        for track in self._followed:
            track.end_if_unseen(self._config.max_lost_s)
        tracks = [track.value() for track in self._followed if not track.is_forgotten]
        self._followed = [track for track in self._followed if track.state is not TrackState.ENDED]
        return tracks
