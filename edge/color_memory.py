"""Remembers the colors of each track, and chooses the tracks to classify next.

Method: an exponential average of the color model's shares per track. The dominant color changes
only when another term leads by a margin, and a named color becomes `unknown` only when its share
falls below the threshold by a margin, so that colors do not flap between frames. A color's swatch
is the one from its newest classification that gave a swatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.config import ColorConfig
from edge.swatch import Rgb
from edge.values import UNKNOWN_COLOR, ColorScore, Track, TrackState

NEW_WEIGHT = 0.4  # of the newest classification in the average
LEAD = 0.08  # share by which another term must lead to become dominant
DOUBT = 0.08  # share by which a named color may fall below the threshold of `unknown`


@dataclass(slots=True)
class _TrackColors:
    shares: dict[str, float]
    rgb: dict[str, Rgb]
    dominant: str
    is_named: bool
    seen_s: float


class ColorMemory:
    """Colors of one camera's tracks by track id."""

    def __init__(self, config: ColorConfig, *, unknown_below: float) -> None:
        """Take the share below which the dominant color is reported as `unknown`."""
        self._config = config
        self._unknown_below = unknown_below
        self._by_track: dict[int, _TrackColors] = {}

    def use(self, config: ColorConfig, *, unknown_below: float) -> None:
        """Judge by another config and threshold from now on; the model's terms are the same."""
        self._config, self._unknown_below = config, unknown_below

    def due(self, tracks: Sequence[Track], now_s: float) -> list[Track]:
        """Return the confirmed tracks to classify: new ones first, then the longest ago."""
        waiting = [
            (self._seen_s(track), track)
            for track in tracks
            if track.state is TrackState.CONFIRMED
            and now_s - self._seen_s(track) >= self._config.refresh_s
        ]
        return [track for _, track in sorted(waiting, key=lambda pair: pair[0])]

    def add(self, track_id: int, scores: Sequence[ColorScore], now_s: float) -> None:
        """Add the model's shares from one classification of a track, best first."""
        newest = {score.name: score.score for score in scores}
        rgb = {score.name: score.rgb for score in scores if score.rgb}
        entry = self._by_track.get(track_id)
        if entry is None:
            is_named = scores[0].score >= self._unknown_below
            self._by_track[track_id] = _TrackColors(newest, rgb, scores[0].name, is_named, now_s)
            return
        entry.rgb |= rgb
        for name, share in newest.items():
            entry.shares[name] += NEW_WEIGHT * (share - entry.shares[name])
        leader = max(entry.shares, key=entry.shares.__getitem__)
        if entry.shares[leader] >= entry.shares[entry.dominant] + LEAD:
            entry.dominant = leader
        doubt = DOUBT if entry.is_named else 0.0
        entry.is_named = entry.shares[entry.dominant] >= self._unknown_below - doubt
        entry.seen_s = now_s

    def colors(self, track_id: int) -> tuple[ColorScore, ...]:
        """Return the dominant color, then those above `min_score`; empty when unclassified."""
        entry = self._by_track.get(track_id)
        if entry is None:
            return ()
        top = entry.shares[entry.dominant]
        if not entry.is_named:
            return (ColorScore(UNKNOWN_COLOR, top),)
        further = sorted(
            (
                ColorScore(name, share, entry.rgb.get(name))
                for name, share in entry.shares.items()
                if name != entry.dominant and share >= self._config.min_score
            ),
            key=lambda color: -color.score,
        )
        return (ColorScore(entry.dominant, top, entry.rgb.get(entry.dominant)), *further)

    def forget_all_but(self, track_ids: set[int]) -> None:
        """Forget all other tracks: they are no longer followed."""
        for track_id in self._by_track.keys() - track_ids:
            del self._by_track[track_id]

    def _seen_s(self, track: Track) -> float:
        entry = self._by_track.get(track.track_id)
        return entry.seen_s if entry else float("-inf")
