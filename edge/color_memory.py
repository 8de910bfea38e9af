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
class _Look:
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
        self._looks: dict[int, _Look] = {}

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
        look = self._looks.get(track_id)
        if look is None:
            is_named = scores[0].score >= self._unknown_below
            self._looks[track_id] = _Look(newest, rgb, scores[0].name, is_named, now_s)
            return
        look.rgb |= rgb
        for name, share in newest.items():
            look.shares[name] += NEW_WEIGHT * (share - look.shares[name])
        leader = max(look.shares, key=look.shares.__getitem__)
        if look.shares[leader] >= look.shares[look.dominant] + LEAD:
            look.dominant = leader
        doubt = DOUBT if look.is_named else 0.0
        look.is_named = look.shares[look.dominant] >= self._unknown_below - doubt
        look.seen_s = now_s

    def colors(self, track_id: int) -> tuple[ColorScore, ...]:
        """Return the dominant color, then those above `min_score`; empty before the first look."""
        look = self._looks.get(track_id)
        if look is None:
            return ()
        top = look.shares[look.dominant]
        if not look.is_named:
            return (ColorScore(UNKNOWN_COLOR, top),)
        further = sorted(
            (
                ColorScore(name, share, look.rgb.get(name))
                for name, share in look.shares.items()
                if name != look.dominant and share >= self._config.min_score
            ),
            key=lambda color: -color.score,
        )
        return (ColorScore(look.dominant, top, look.rgb.get(look.dominant)), *further)

    def forget_all_but(self, track_ids: set[int]) -> None:
        """Forget all other tracks: they are no longer followed."""
        for track_id in self._looks.keys() - track_ids:
            del self._looks[track_id]

    def _seen_s(self, track: Track) -> float:
        look = self._looks.get(track.track_id)
        return look.seen_s if look else float("-inf")
