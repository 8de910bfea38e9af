"""Few events: new, update, end; zones and moves with hysteresis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.config import EventsConfig
from edge.events import EventLogic
from edge.values import Box, ColorScore, EventKind, ObjectEvent, Track, TrackState

FRAME_SIZE = (100, 100)
RIGHT_HALF = {"door": ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))}
CONFIG = EventsConfig(update_interval_s=1.0, min_move=0.5, zone_hold_s=0.5)
RED, BLUE = (ColorScore("red", 0.9),), (ColorScore("blue", 0.8),)
LEFT, RIGHT = Box(10, 10, 20, 20), Box(70, 10, 20, 20)
SEEN = Track(1, "car", 0.8, LEFT, TrackState.CONFIRMED, 0.0, 0.0, 3)


class EventFeed:
    """Event logic fed one track at a time; `at` returns the event or None."""

    def __init__(self, config: EventsConfig = CONFIG) -> None:
        self._logic = EventLogic(config, RIGHT_HALF)

    def at(self, now_s: float, track: Track, colors: tuple = ()) -> ObjectEvent | None:
        events = self._logic.update([track], lambda _: colors, now_s, FRAME_SIZE)
        assert len(events) <= 1
        return events[0] if events else None

    def kind_at(self, now_s: float, track: Track, colors: tuple = ()) -> EventKind | None:
        event = self.at(now_s, track, colors)
        return event.kind if event else None


def is_at(box_px: Box, **changes: object) -> Track:
    return replace(SEEN, box_px=box_px, **changes)


def ended() -> Track:
    return replace(SEEN, state=TrackState.ENDED)


def test_new_comes_once_when_a_track_is_confirmed():
    feed = EventFeed()
    assert feed.kind_at(0.0, replace(SEEN, state=TrackState.TENTATIVE)) is None
    assert feed.kind_at(0.1, SEEN) is EventKind.NEW
    assert [feed.kind_at(0.1 * n, SEEN) for n in range(2, 60)] == [None] * 58


def test_end_comes_once_and_only_after_new():
    feed = EventFeed()
    assert feed.kind_at(0.0, ended()) is None
    feed.at(0.1, SEEN)
    assert feed.kind_at(0.2, replace(SEEN, state=TrackState.LOST)) is None
    assert feed.kind_at(0.3, ended()) is EventKind.END
    assert feed.kind_at(0.4, ended()) is None


def test_end_event_repeats_the_known_attributes():
    feed = EventFeed()
    feed.at(0.0, SEEN, RED)
    feed.at(0.1, replace(SEEN, score=0.95), RED)
    event = feed.at(0.2, ended())
    assert event is not None
    assert event.best_score == 0.95
    assert event.colors == RED


def test_box_predicted_outside_the_picture_makes_no_event():
    logic = EventLogic(CONFIG, RIGHT_HALF)
    boxes = [LEFT, Box(-15, 10, 20, 20), Box(-30, 10, 20, 20)]
    for now_s, box in enumerate(boxes):
        events = logic.update([is_at(box)], lambda _: (), 2.0 * now_s, FRAME_SIZE)
    assert events == []
    (end,) = logic.finish()
    assert (end.track.box_px, end.track.state) == (boxes[1], TrackState.ENDED)
    assert logic.finish() == []


@pytest.mark.parametrize(
    ("box_px", "is_visible"),
    [
        (Box(-19, 10, 20, 20), True),
        (Box(-19.1, 10, 20, 20), False),
        (Box(10, 99, 20, 20), True),
        (Box(10, 99.1, 20, 20), False),
    ],
)
def test_object_is_visible_while_a_pixel_of_it_is_in_the_frame(box_px: Box, *, is_visible: bool):
    feed = EventFeed()
    feed.at(0.0, SEEN)
    assert (feed.at(2.0, is_at(box_px)) is not None) == is_visible


def test_lost_object_makes_no_update():
    feed = EventFeed()
    feed.at(0.0, SEEN)
    assert feed.at(2.0, is_at(RIGHT, state=TrackState.LOST)) is None
    assert feed.kind_at(2.1, is_at(RIGHT)) is EventKind.UPDATE


def test_object_that_began_without_area_makes_an_update():
    feed = EventFeed()
    feed.at(0.0, is_at(Box(10, 10, 0, 20)))
    assert feed.kind_at(2.0, is_at(RIGHT)) is EventKind.UPDATE


def test_update_needs_a_change_and_the_interval():
    feed = EventFeed()
    feed.at(0.0, SEEN)
    assert feed.kind_at(0.9, is_at(RIGHT)) is None
    assert feed.kind_at(1.0, is_at(RIGHT)) is EventKind.UPDATE
    assert feed.kind_at(1.5, SEEN) is None
    assert feed.kind_at(2.0, SEEN) is EventKind.UPDATE


def test_movement_is_relative_to_box_size_since_the_last_event():
    feed = EventFeed()
    feed.at(0.0, SEEN)
    steps = [feed.kind_at(2.0 + n, is_at(Box(10 + 5 * n, 10, 20, 20))) for n in range(1, 4)]
    assert steps == [None, EventKind.UPDATE, None]  # 10 px of a size of 20
    assert feed.kind_at(6.0, is_at(Box(15, 10, 40, 40))) is EventKind.UPDATE  # 11 px of 20
    assert feed.kind_at(8.0, is_at(Box(34, 10, 40, 40))) is None  # 19 px of 40


def test_jittering_box_makes_no_update():
    feed = EventFeed()
    feed.at(0.0, SEEN)
    trembling = [Box(10 + n % 3, 10 - n % 2, 20 + n % 4, 20) for n in range(100)]
    assert all(feed.at(1.0 + n, is_at(box)) is None for n, box in enumerate(trembling))


def test_change_of_label_or_dominant_color_makes_an_update():
    feed = EventFeed()
    assert feed.kind_at(0.0, SEEN) is EventKind.NEW
    assert feed.kind_at(2.0, SEEN, RED) is EventKind.UPDATE
    assert feed.kind_at(4.0, SEEN, (*RED, *BLUE)) is None
    assert feed.kind_at(6.0, SEEN, BLUE) is EventKind.UPDATE
    assert feed.kind_at(8.0, replace(SEEN, label="truck"), BLUE) is EventKind.UPDATE


def test_new_names_the_zone_the_object_appears_in():
    feed = EventFeed()
    event = feed.at(0.0, is_at(RIGHT))
    assert event is not None
    assert event.zones == ("door",)


def still(**changes: float) -> EventsConfig:
    """Return a config whose updates come from zones alone."""
    return EventsConfig(
        **{"update_interval_s": 0.01, "min_move": 100, "zone_hold_s": 0.5} | changes
    )


def test_zone_is_entered_after_the_hold_time():
    feed = EventFeed(still())
    feed.at(0.0, SEEN)
    assert feed.at(1.0, is_at(RIGHT)) is None
    assert feed.at(1.4, is_at(RIGHT)) is None
    event = feed.at(1.5, is_at(RIGHT))
    assert event is not None
    assert event.zones == ("door",)


def test_object_that_moves_within_a_zone_stays_in_it():
    feed = EventFeed()
    feed.at(0.0, is_at(RIGHT))
    event = feed.at(2.0, is_at(Box(55, 10, 20, 20)))
    assert event is not None
    assert event.zones == ("door",)


def test_brief_visit_of_a_zone_makes_no_event():
    feed = EventFeed(still())
    feed.at(0.0, SEEN)
    places = [RIGHT if n % 3 else LEFT for n in range(100)]
    assert all(feed.at(1 + 0.2 * n, is_at(box)) is None for n, box in enumerate(places))


def test_leaving_a_zone_needs_the_same_hold_time_as_entering():
    feed = EventFeed(still())
    feed.at(0.0, SEEN)
    feed.at(1.0, is_at(RIGHT))
    assert feed.kind_at(1.5, is_at(RIGHT)) is EventKind.UPDATE
    assert feed.kind_at(1.6, SEEN) is None  # not at once, though the entry began long ago
    assert feed.kind_at(2.0, SEEN) is None
    event = feed.at(2.1, SEEN)
    assert event is not None
    assert event.zones == ()


def test_object_at_the_lower_edge_of_the_frame_is_in_its_zone():
    feed = EventFeed()
    event = feed.at(0.0, is_at(Box(70, 60, 20, 40)))
    assert event is not None
    assert event.zones == ("door",)


def test_events_of_objects_are_independent():
    logic = EventLogic(CONFIG, {})
    second = replace(SEEN, track_id=2, label="cat")
    events = logic.update([SEEN, second], lambda _: (), 0.0, FRAME_SIZE)
    assert [(event.kind, event.track.track_id) for event in events] == [("new", 1), ("new", 2)]
    events = logic.update([ended(), second], lambda _: (), 0.5, FRAME_SIZE)
    assert [(event.kind, event.track.track_id) for event in events] == [("end", 1)]


def test_without_hold_a_zone_changes_at_once():
    feed = EventFeed(still(zone_hold_s=0.0))
    feed.at(0.0, SEEN)
    assert feed.kind_at(1.0, is_at(RIGHT)) is EventKind.UPDATE
    assert feed.kind_at(1.1, SEEN) is EventKind.UPDATE
    assert feed.kind_at(1.2, SEEN) is None
