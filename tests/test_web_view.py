"""The page's view of the daemon: events, colors, pictures with boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge import drawing
from edge.values import Box, ColorScore, Frame, Track, TrackState
from edge.web import View
from edge.web.picture import MAX_JPEGS_PER_S, Pictures, drawn
from edge.web.view import MAX_EVENTS, Scene
from fakes import FakeClock
from viewed import decoded, result, track

pytest.importorskip("litestar", reason="the extra `web` is not installed")


def test_view_keeps_the_last_events_newest_first() -> None:
    view = View()
    for number in range(MAX_EVENTS + 5):
        view.tell_event(b"%d" % number)
    assert view.events(2) == [b"104", b"103"]
    assert len(view.events(1000)) == MAX_EVENTS


def test_view_remembers_an_objects_color_until_it_is_gone() -> None:
    view = View()
    red = track(1, Box(10, 60, 40, 80))
    view.tell_frame(result(1, red, color="red"))
    other = result(1, red)  # an object with the same number
    view.tell_frame(replace(other, frame=replace(other.frame, camera="door")))
    assert view.scene("door").colors == {}
    view.tell_frame(result(2, red))
    assert shown(view).colors[1][0].name == "red"
    view.tell_frame(result(3))
    view.tell_frame(result(4, red))
    assert shown(view).colors == {}


def test_frame_encoding_is_rate_limited() -> None:
    clock, view = FakeClock(1000.0), View()
    pictures = Pictures(view, clock)
    assert pictures.newest("front", boxes=True) is None
    view.tell_frame(result(1))
    first = pictures.newest("front", boxes=True)
    view.tell_frame(result(2))
    assert pictures.newest("front", boxes=True) is first
    clock.advance(1.01 / MAX_JPEGS_PER_S)
    second = pictures.newest("front", boxes=True)
    assert second is not None
    assert second.name != first.name
    clock.advance(10)
    assert pictures.newest("front", boxes=True) is second  # the same frame is not encoded again


def test_picture_has_boxes_only_where_they_are_asked_for() -> None:
    view = View()
    view.tell_frame(result(1, track(1, Box(100, 60, 60, 120))))
    pictures = Pictures(view)
    plain, boxed = (pictures.newest("front", boxes=boxes) for boxes in (False, True))
    assert plain is not None
    assert boxed is not None
    assert decoded(plain.jpeg).std() < 1
    assert decoded(boxed.jpeg).std() > 5


def test_first_frame_after_a_restart_is_not_taken_for_the_one_before() -> None:
    names = set()
    for captured_utc_s in (1000.0, 1060.0):
        view, first = View(), result(1)
        frame = replace(first.frame, captured_utc_s=captured_utc_s)
        view.tell_frame(replace(first, frame=frame))
        made = Pictures(view).newest("front", boxes=True)
        assert made is not None
        names.add(made.name)
    assert len(names) == 2


def test_boxes_captions_and_colors_are_drawn_into_a_copy() -> None:
    view = View()
    seen, lost = Box(100.4, 59.6, 60.3, 120.2), Box(220.4, 59.6, 60.3, 120.2)
    young = track(3, Box(20, 60, 60, 120), TrackState.TENTATIVE)
    view.tell_frame(result(1, track(1, seen), track(2, lost, TrackState.LOST), young, color="red"))
    before = shown(view).frame.bgr.copy()
    made = drawn(shown(view))
    assert np.array_equal(shown(view).frame.bgr, before)
    changed = (made != before).any(axis=2)
    assert changed[120, 100]
    assert changed[120, 95:105].sum() > changed[120, 215:225].sum() > 0  # thinner
    assert not changed[:, :90].any()  # not yet confirmed
    assert changed[45:58, 102:120].all()  # the plate over the box
    assert not changed[40:58, 225:].any()  # none over a lost one
    red = made[45:58, 100:120].reshape(-1, 3).astype(int)
    assert ((red[:, 2] > 180) & (red[:, 0] < 80)).any()


def test_captions_cover_the_boxes_of_others() -> None:
    alone, beside = View(), View()
    front, behind = track(1, Box(100, 60, 60, 120)), track(2, Box(110, 20, 20, 200))
    alone.tell_frame(result(1, front))
    beside.tell_frame(result(1, front, behind))
    plates = [drawn(shown(view))[46:56, 100:170] for view in (alone, beside)]
    assert np.array_equal(*plates)


@pytest.mark.parametrize("box_px", [Box(-50, -40, 60, 60), Box(300, 230, 500, 500)])
def test_box_beyond_the_edge_is_drawn_clipped(box_px: Box) -> None:
    view = View()
    view.tell_frame(result(1, track(1, box_px), color="unknown"))
    assert drawn(shown(view)).shape == (240, 320, 3)


def shown(view: View) -> Scene:
    scene = view.scene("front")
    assert scene is not None
    return scene


def scene(track_: Track, colors: tuple[ColorScore, ...] = (), height: int = 240) -> Scene:
    """A gray frame, 4:3, with one object."""
    bgr = np.full((height, height * 4 // 3, 3), 128, np.uint8)
    return Scene(Frame("front", 1, bgr, 0.0, 1000.0, 0.0), (track_,), {1: colors})


@pytest.mark.parametrize(
    ("colors", "text"),
    [
        ((), "person 0.90"),
        ((ColorScore("red", 0.6), ColorScore("blue", 0.3)), "person 0.90 red"),
        ((ColorScore("unknown", 0.6),), "person 0.90 unknown"),
    ],
)
def test_caption_names_label_score_and_dominant_color(
    colors: tuple[ColorScore, ...], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    monkeypatch.setattr(drawing.cv2, "putText", lambda _bgr, text, *_: texts.append(text))
    drawn(scene(track(1, Box(100, 100, 60, 60)), colors))
    assert texts == [text]


def plate(box_px: Box) -> np.ndarray:
    """Return the part of a drawn picture that a caption's plate fills: it holds all the text."""
    made = drawn(scene(track(1, box_px), (ColorScore("red", 0.9),)))
    rows, columns = np.nonzero((made == drawing.PLATE).all(axis=2))
    place = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    found = made[place].copy()
    made[place] = 0
    assert not (made == 255).all(axis=2).any()
    return found


@pytest.mark.parametrize("corner", [(0, 0), (300, 2), (-40, 100), (310, 300)])
def test_caption_of_an_object_at_the_edge_is_moved_into_the_picture(
    corner: tuple[int, int],
) -> None:
    whole = plate(Box(100, 100, 60, 60))
    moved = plate(Box(*corner, 60, 60))
    rows, columns = moved.shape[:2]
    assert np.array_equal(moved, whole[:rows, :columns])
    assert np.subtract(moved.shape, whole.shape).min() >= -1  # the frame's edge cuts a pixel off
    red, white = (255 * (whole == bgr).all(axis=2) for bgr in ((40, 40, 215), (255, 255, 255)))
    assert red.any()
    assert np.nonzero(white)[1].max() > np.nonzero(red)[1].max() + 40  # text beside the patch


def test_lines_grow_with_the_picture() -> None:
    widths = []
    for height in (240, 1080):
        made = drawn(scene(track(1, Box(100.4, 100, 60, 60)), height=height))
        widths.append((made[130, 90:110] != 128).any(axis=1).sum())
    assert widths[1] > widths[0] + 1


def test_only_the_dominant_color_has_a_patch() -> None:
    one, red, blue = (
        track(1, Box(100, 100, 60, 60)),
        ColorScore("red", 0.6),
        ColorScore("blue", 0.3),
    )
    assert np.array_equal(drawn(scene(one, (red, blue))), drawn(scene(one, (red,))))
