"""Turns tracks into few events: new, update, end.

`new` is sent when a track is confirmed, `end` when it has ended. `update` is sent at most once per
interval, and only when the object moved, or its label, dominant color or zones changed. A zone
counts as entered or left only after the foot point has stayed on that side for `zone_hold_s`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge.config import EventsConfig
from edge.geometry import contains, foot_point
from edge.values import Box, ColorScore, EventKind, ObjectEvent, Polygon, Track, TrackState

MIN_VISIBLE_PX = 1.0  # of a box inside the frame, in each direction

ColorsOf = Callable[[int], tuple[ColorScore, ...]]


@dataclass(slots=True)
class _Reported:
    """An object as in its last event.

    at_s: time of that event. newest: the newest visible state, which no event may have reported.
    zone_since: when the foot point changed sides, for zones whose change is not yet settled.
    """

    track: Track
    colors: tuple[ColorScore, ...]
    zones: tuple[str, ...]
    at_s: float
    best_score: float
    newest: Track
    zone_since: dict[str, float] = field(default_factory=dict)


class EventLogic:
    """The events of one camera."""

    def __init__(self, config: EventsConfig, zones: Mapping[str, Polygon]) -> None:
        """Take zones as polygons of frame shares, by name."""
        self._config = config
        self._zones = zones
        self._reported: dict[int, _Reported] = {}

    def use(self, config: EventsConfig, zones: Mapping[str, Polygon]) -> None:
        """Report by another config and other zones from the next frame on."""
        self._config, self._zones = config, zones

    def update(
        self,
        tracks: Sequence[Track],
        colors_of: ColorsOf,
        now_s: float,
        frame_size: tuple[int, int],
    ) -> list[ObjectEvent]:
        """Return the events of one frame.

        tracks: all of the tracker's tracks, ended ones once.
        colors_of: colors known of a track id.
        frame_size: (width, height), to place zones.
        """
        events = []
        for track in tracks:
            event = self._event(track, colors_of(track.track_id), now_s, frame_size)
            if event is not None:
                events.append(event)
        return events

    def finish(self) -> list[ObjectEvent]:
        """Return an `end` for every reported object: none is followed any longer."""
        events = [
            _object_event(
                EventKind.END,
                replace(reported.newest, state=TrackState.ENDED),
                reported,
                reported.colors,
            )
            for reported in self._reported.values()
        ]
        self._reported.clear()
        return events

    def _event(
        self,
        track: Track,
        colors: tuple[ColorScore, ...],
        now_s: float,
        frame_size: tuple[int, int],
    ) -> ObjectEvent | None:
        reported = self._reported.get(track.track_id)
        if reported is None:
            return self._begin(track, colors, now_s, frame_size)
        reported.best_score = max(reported.best_score, track.score)
        if track.state is TrackState.ENDED:
            del self._reported[track.track_id]
            return _object_event(EventKind.END, track, reported, colors or reported.colors)
        is_visible = _is_visible(track.box_px, frame_size)  # its prediction may have left the frame
        if is_visible:
            reported.newest = track
        if track.state is not TrackState.CONFIRMED or not is_visible:
            return None
        zones = self._settled_zones(reported, track.box_px.normalized(frame_size), now_s)
        if now_s - reported.at_s < self._config.update_interval_s:
            return None
        if not self._is_news(reported, track, colors, zones):
            return None
        for name in set(reported.zones) ^ set(zones):
            # A change back must be held as long again. A zone that `use` has removed is not there.
            reported.zone_since.pop(name, None)
        reported.track, reported.colors, reported.zones, reported.at_s = track, colors, zones, now_s
        return _object_event(EventKind.UPDATE, track, reported, colors)

    def _begin(
        self,
        track: Track,
        colors: tuple[ColorScore, ...],
        now_s: float,
        frame_size: tuple[int, int],
    ) -> ObjectEvent | None:
        if track.state is not TrackState.CONFIRMED:
            return None
        zones = self._zones_at(track.box_px.normalized(frame_size))
        reported = _Reported(track, colors, zones, now_s, track.score, newest=track)
        self._reported[track.track_id] = reported
        return _object_event(EventKind.NEW, track, reported, colors)

    def _is_news(
        self,
        reported: _Reported,
        track: Track,
        colors: tuple[ColorScore, ...],
        zones: tuple[str, ...],
    ) -> bool:
        return (
            reported.track.label != track.label
            or _dominant(reported.colors) != _dominant(colors)
            or reported.zones != zones
            or _move(reported.track.box_px, track.box_px) >= self._config.min_move
        )

    def _zones_at(self, box_norm: Box) -> tuple[str, ...]:
        point = foot_point(box_norm)
        return tuple(name for name, polygon in self._zones.items() if contains(polygon, point))

    def _settled_zones(self, reported: _Reported, box_norm: Box, now_s: float) -> tuple[str, ...]:
        """Return the reported zones, changed where the object has stayed on the other side."""
        current = set(self._zones_at(box_norm))
        settled = set(reported.zones)
        for name in self._zones:
            if (name in current) == (name in reported.zones):
                reported.zone_since.pop(name, None)
            elif now_s - reported.zone_since.setdefault(name, now_s) >= self._config.zone_hold_s:
                settled ^= {name}
        return tuple(name for name in self._zones if name in settled)


def _object_event(
    kind: EventKind, track: Track, reported: _Reported, colors: tuple[ColorScore, ...]
) -> ObjectEvent:
    return ObjectEvent(kind, track, reported.best_score, colors, reported.zones)


def _dominant(colors: tuple[ColorScore, ...]) -> str:
    return colors[0].name if colors else ""


def _is_visible(box_px: Box, frame_size: tuple[int, int]) -> bool:
    inside = box_px.clipped(frame_size)
    return min(inside.width, inside.height) >= MIN_VISIBLE_PX


def _move(old: Box, new: Box) -> float:
    """Return how far a box's center moved, in units of its size (root of its area)."""
    return math.dist(old.center, new.center) / max(math.sqrt(old.area), 1.0)
