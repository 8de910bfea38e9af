"""Colors of tracks: classified in turn, and stable."""

from __future__ import annotations

import random

from edge.color_memory import DOUBT, LEAD, ColorMemory
from edge.config import ColorConfig
from edge.values import Box, ColorScore, Track, TrackState

CONFIG = ColorConfig(refresh_s=2.0, min_score=0.15)


def track(track_id: int, state: TrackState = TrackState.CONFIRMED) -> Track:
    return Track(track_id, "car", 0.9, Box(0, 0, 10, 10), state, 0.0, 0.0, 3)


def scores(**shares: float) -> list[ColorScore]:
    return sorted((ColorScore(*item) for item in shares.items()), key=lambda s: -s.score)


def memory(unknown_below: float = 0.0) -> ColorMemory:
    return ColorMemory(CONFIG, unknown_below=unknown_below)


def names(known: ColorMemory) -> list[str]:
    return [color.name for color in known.colors(1)]


def test_unclassified_track_has_no_color():
    assert memory().colors(1) == ()


def test_only_confirmed_tracks_are_due_the_longest_unseen_first():
    known = memory()
    known.add(1, scores(red=1.0), 1.0)
    known.add(2, scores(red=1.0), 0.5)
    known.add(3, scores(red=1.0), 2.0)
    tracks = [track(1), track(2), track(3), track(4), track(5, TrackState.LOST)]
    assert [t.track_id for t in known.due(tracks, 3.5)] == [4, 2, 1]
    assert [t.track_id for t in known.due(tracks, 2.4)] == [4]


def test_dominant_color_comes_first_and_faint_ones_are_left_out():
    known = memory()
    known.add(1, scores(black=0.14, red=0.4, white=0.2, blue=0.26), 0.0)
    assert known.colors(1) == (
        ColorScore("red", 0.4),
        ColorScore("blue", 0.26),
        ColorScore("white", 0.2),
    )
    known.add(1, scores(white=0.4, red=0.3, blue=0.26, black=0.04), 0.0)
    assert names(known) == ["red", "white", "blue"]


def test_rgb_of_a_color_is_from_its_last_large_enough_share():
    known = memory()
    for red, now_s in ((20, 0.0), (40, 2.0)):
        known.add(1, [ColorScore("red", 0.7, (red, 0, 0)), ColorScore("white", 0.3)], now_s)
    known.add(1, [ColorScore("white", 0.7, (250, 250, 250)), ColorScore("red", 0.3)], 4.0)
    colors = {color.name: color.rgb for color in known.colors(1)}
    assert colors == {"red": (40, 0, 0), "white": (250, 250, 250)}


def test_classifications_are_averaged():
    known = memory()
    known.add(1, scores(red=1.0, blue=0.0), 0.0)
    known.add(1, scores(red=0.5, blue=0.5), 2.0)
    assert known.colors(1)[0] == ColorScore("red", 0.8)


def test_wavering_classifications_do_not_change_the_dominant_color():
    known = memory()
    known.add(1, scores(red=0.5, blue=0.5), 0.0)
    chance = random.Random(1)
    for look in range(200):
        lead = chance.uniform(-LEAD, LEAD) * 0.9
        known.add(1, scores(red=0.5 + lead / 2, blue=0.5 - lead / 2), float(look))
        assert names(known)[0] == "red"


def test_a_clear_change_of_color_is_followed_once():
    known = memory()
    known.add(1, scores(red=0.9, blue=0.1), 0.0)
    dominant = []
    for look in range(10):
        known.add(1, scores(red=0.1, blue=0.9), float(look))
        dominant.append(names(known)[0])
    assert dominant == sorted(dominant, reverse=True)  # red …, then blue …
    assert dominant[-1] == "blue"


def test_unclear_object_has_unknown_as_its_only_color():
    known = memory(unknown_below=0.4)
    known.add(1, scores(red=0.3, blue=0.3, gray=0.2, white=0.2), 0.0)
    assert known.colors(1) == (ColorScore("unknown", 0.3),)


def test_a_share_that_wavers_around_the_threshold_does_not_flap_to_unknown():
    known = memory(unknown_below=0.4)
    known.add(1, scores(red=0.42, blue=0.3, gray=0.28), 0.0)
    chance = random.Random(1)
    for look in range(200):
        share = 0.4 + chance.uniform(-DOUBT, DOUBT) * 0.9
        known.add(1, scores(red=share, blue=0.3, gray=0.7 - share), float(look))
        assert names(known)[0] == "red"


def test_unknown_is_left_at_the_threshold_and_reached_below_it():
    known = memory(unknown_below=0.4)
    known.add(1, scores(red=0.39, blue=0.31, gray=0.3), 0.0)
    assert names(known) == ["unknown"]
    known.add(1, scores(red=0.39, blue=0.31, gray=0.3), 1.0)
    assert names(known) == ["unknown"]  # the lower threshold applies to a color already named
    known.add(1, scores(red=0.6, blue=0.3, gray=0.1), 2.0)
    assert names(known)[0] == "red"
    for look in range(20):
        known.add(1, scores(red=0.3, blue=0.35, gray=0.35), float(look))
    assert names(known) == ["unknown"]


def test_forgotten_tracks_are_due_again():
    known = memory()
    known.add(1, scores(red=1.0), 0.0)
    known.add(2, scores(red=1.0), 0.0)
    known.forget_all_but({2})
    assert known.colors(1) == ()
    assert known.colors(2)
    assert [t.track_id for t in known.due([track(1), track(2)], 0.1)] == [1]
