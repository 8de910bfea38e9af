"""Several cameras for one consumer: real threads, fake sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edge.capture import Cameras, CaptureState
from edge.capture.camera import JOIN_S
from edge.capture.cameras import IN_STEP_S, STARVED
from edge.capture.source import Source
from edge.config import CameraConfig
from edge.errors import InputError
from edge.values import Image
from fakes import FakeSource
from pictures import PATIENCE_S, gray_level
from waiting import wait_until

Script = list[Image | Exception | threading.Event]


def opener(scripts: list[Script], *, is_live: bool = True) -> Callable[[CameraConfig], Source]:
    """Opens the script whose number is the camera's source."""
    return lambda config: FakeSource(scripts[int(config.source)], is_live=is_live, fps=50)


def names(count: int) -> dict[str, CameraConfig]:
    """Cameras c, b, a, … with the sources 0, 1, 2, …: neither order is that of their names."""
    return {name: CameraConfig(source=number) for number, name in enumerate("cba"[:count])}


def taken(cameras: Cameras, count: int) -> list[str]:
    """The cameras of the next frames."""
    frames = [cameras.take(PATIENCE_S) for _ in range(count)]
    return [frame.camera for frame in frames if frame is not None]


def taken_until_all_came(cameras: Cameras, expected: set[str]) -> set[str]:
    """The cameras of the next frames, until each of those expected has had its turn."""
    came: set[str] = set()

    def have_all_come() -> bool:
        came.update(taken(cameras, 1))
        return came >= expected

    wait_until(have_all_come)
    return came


def frames_read(cameras: Cameras, name: str, count: int) -> None:
    """Wait until a camera has read so many frames and the last one can be taken."""
    wait_until(lambda: cameras.status(name).frames == count)
    wait_until(lambda: cameras._cameras[name].waiting_since_s is not None)


def test_frame_captured_first_is_taken_first() -> None:
    go = [threading.Event() for _ in range(3)]
    hold = threading.Event()
    scripts: list[Script] = [[event, gray_level(40), hold] for event in go]
    with Cameras(names(3), open_source=opener(scripts)) as cameras:
        for number, name in ((2, "a"), (0, "c"), (1, "b")):
            go[number].set()
            frames_read(cameras, name, 1)
        assert taken(cameras, 3) == ["a", "c", "b"]
        assert cameras.take(0) is None
        hold.set()


def test_take_returns_as_soon_as_a_frame_comes() -> None:
    go = threading.Event()
    with Cameras(names(2), open_source=opener([[go, gray_level(40)], [go]])) as cameras:
        began_s = time.monotonic()
        threading.Timer(0.2, go.set).start()
        assert taken(cameras, 1) == ["c"]
        assert time.monotonic() - began_s < PATIENCE_S / 2


def test_camera_that_had_its_turn_waits_for_the_others_even_with_an_older_frame() -> None:
    go = [threading.Event() for _ in range(2)]
    hold = threading.Event()
    scripts: list[Script] = [
        [gray_level(40), go[0], gray_level(60), hold],
        [go[1], gray_level(40), hold],
    ]
    with Cameras(names(2), open_source=opener(scripts)) as cameras:
        assert taken(cameras, 1) == ["c"]
        for number, name, count in ((0, "c", 2), (1, "b", 1)):
            go[number].set()
            frames_read(cameras, name, count)
        assert taken(cameras, 2) == ["b", "c"]
        hold.set()


def test_camera_whose_detector_ran_longest_ago_is_next_even_with_a_newer_frame() -> None:
    go = [threading.Event() for _ in range(6)]
    hold = threading.Event()
    scripts: list[Script] = [
        [go[number], gray_level(40), go[number + 3], gray_level(60), hold] for number in range(3)
    ]
    with Cameras(names(3), open_source=opener(scripts)) as cameras:
        for number, name in ((2, "a"), (0, "c"), (1, "b")):
            go[number].set()
            frames_read(cameras, name, 1)
        for name, is_detected in (("a", True), ("c", False), ("b", True)):
            assert taken(cameras, 1) == [name]
            if is_detected:
                cameras.tell_detected(name)
        for number, name in ((1, "b"), (2, "a"), (0, "c")):
            go[number + 3].set()
            frames_read(cameras, name, 2)
        assert taken(cameras, 3) == ["c", "a", "b"]
        hold.set()


def test_cameras_take_turns_while_each_always_has_a_frame() -> None:
    def endless(config: CameraConfig) -> Source:
        return Endless(0.001 * (1 + int(config.source)))

    def have_read(before: dict[str, int]) -> bool:
        return all(cameras.status(name).frames > before[name] + 1 for name in before)

    with Cameras(names(3), open_source=endless) as cameras:
        turns = []
        for _ in range(30):  # the consumer's work, in which each source reads several frames
            before = {name: cameras.status(name).frames for name in names(3)}
            wait_until(lambda before=before: have_read(before))
            turns += taken(cameras, 1)
    assert all(len({*turns[start : start + 3]}) == 3 for start in range(0, 30, 3))


class Endless:
    """A source that has a frame every `interval_s`."""

    is_live, fps, frames, seen_s = True, 0.0, 0, 0.0

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s

    def read(self) -> Image:
        time.sleep(self.interval_s)
        return gray_level(40)

    def close(self) -> None:
        """Nothing to close."""


def test_of_cameras_in_step_the_later_one_gets_turns_too() -> None:
    began_s = time.monotonic()

    class InStep(Endless):
        def read(self) -> Image:
            now_s = time.monotonic() - began_s
            time.sleep(0.1 - (now_s - self.interval_s) % 0.1)
            return gray_level(40)

    def open_source(config: CameraConfig) -> Source:
        return InStep(0.02 * int(config.source))  # how much later its frames come

    detected = {"c": 0, "b": 0}
    with Cameras(names(2), open_source=open_source) as cameras:
        while sum(detected.values()) < 20:
            frame = cameras.take(PATIENCE_S)
            assert frame is not None
            if time.monotonic() - frame.captured_mono_s > 0.03:
                cameras.tell_too_old(frame.camera)
                continue
            detected[frame.camera] += 1
            cameras.tell_detected(frame.camera)
            time.sleep(0.06)
    assert min(detected.values()) >= 3


def test_owed_camera_that_does_not_come_holds_up_the_other_only_once() -> None:
    hold = threading.Event()

    def open_source(config: CameraConfig) -> Source:
        return FakeSource([gray_level(40), hold]) if config.source else Endless(0.001)

    with Cameras(names(2), open_source=open_source) as cameras:
        frames_read(cameras, "b", 1)
        assert "b" in taken(cameras, 2)
        for _ in range(STARVED):
            cameras.tell_detected("c")
        cameras.tell_too_old("b")
        waits_s = []
        for _ in range(10):
            began_s = time.monotonic()
            assert taken(cameras, 1) == ["c"]
            waits_s.append(time.monotonic() - began_s)
        hold.set()
    assert waits_s[0] >= IN_STEP_S > min(waits_s[1:])


def one_unreadable(config: CameraConfig) -> Source:
    """Open a source that delivers; 1 is no video."""
    if config.source == 1:
        raise InputError("clip.mp4: not a video; choose another")
    return Endless(0.001)


def test_failure_of_one_camera_is_raised_although_another_delivers() -> None:
    with Cameras(names(2), open_source=one_unreadable) as cameras:
        wait_until(lambda: cameras.status("c").frames > 3)
        with pytest.raises(InputError, match=r"clip\.mp4"):
            wait_until(lambda: not taken(cameras, 1))


def test_others_go_on_when_one_file_has_ended_and_all_are_over_with_the_last() -> None:
    go = threading.Event()
    scripts: list[Script] = [[gray_level(40)], [go, gray_level(60)]]
    with Cameras(names(2), open_source=opener(scripts, is_live=False)) as cameras:
        assert taken(cameras, 1) == ["c"]
        wait_until(lambda: cameras.status("c").state is CaptureState.ENDED)
        began_s = time.monotonic()
        assert cameras.take(0.2) is None
        assert time.monotonic() - began_s >= 0.2  # no busy loop
        assert not cameras.is_over
        go.set()
        assert taken(cameras, 1) == ["b"]
        began_s = time.monotonic()
        assert cameras.take(PATIENCE_S) is None
        assert time.monotonic() - began_s < PATIENCE_S / 2
        assert cameras.is_over


def test_replaced_camera_continues_its_counters_and_leaves_the_others_alone() -> None:
    hold, end = threading.Event(), threading.Event()
    scripts: list[Script] = [[gray_level(40), gray_level(50), hold], [gray_level(60), end]]
    with Cameras(names(2), open_source=opener(scripts)) as cameras:
        frames_read(cameras, "c", 2)
        frames_read(cameras, "b", 1)
        hold.set()
        last = cameras.replace(["c"], {"c": CameraConfig(source=1)})
        assert last["c"].frames == 2
        wait_until(lambda: cameras.status("c").frames == 3)
        assert cameras.status("b").frames == 1
        end.set()


def test_cameras_come_and_go() -> None:
    hold = threading.Event()

    def open_source(config: CameraConfig) -> Source:
        return FakeSource([gray_level(40), hold]) if config.source == 3 else Endless(0.001)

    with Cameras(names(2), open_source=open_source) as cameras:
        assert taken_until_all_came(cameras, {"b", "c"}) == {"b", "c"}
        wait_until(lambda: cameras.status("c").frames > 1)
        cameras.replace(["c"], {"a": CameraConfig(source=2)})
        assert taken_until_all_came(cameras, {"a", "b"}) == {"a", "b"}
        cameras.replace(["a"], {"c": CameraConfig(source=3)})
        assert taken_until_all_came(cameras, {"b", "c"}) == {"b", "c"}
        assert cameras.status("c").frames == 1  # counted anew
        hold.set()


def test_file_that_becomes_unreadable_is_tried_again_and_does_not_end_the_others() -> None:
    opened: list[int] = []
    config = CameraConfig(source=0, loop=True, retry_min_s=0.01, retry_max_s=0.02)

    def one_in_two(config: CameraConfig) -> Source:
        if config.source == 1:
            return Endless(0.001)
        opened.append(0)
        if len(opened) % 2 == 0:
            raise InputError("clip.mp4: no such file or folder; check the path")
        return FakeSource([gray_level(40)], is_live=False, fps=1000)

    with Cameras({"c": config, "b": CameraConfig(source=1)}, open_source=one_in_two) as cameras:
        wait_until(lambda: "c" in taken(cameras, 1) and len(opened) > 4)
        assert cameras.status("c").reconnects > 0


def test_unreadable_file_that_a_reload_names_leaves_the_others_at_work() -> None:
    with Cameras(names(1), open_source=one_unreadable) as cameras:
        cameras.replace([], {"b": CameraConfig(source=1)})
        wait_until(lambda: cameras.status("b").state is CaptureState.LOST)
        assert cameras.status("b").reason == "clip.mp4: not a video; choose another"
        assert taken(cameras, 20) == ["c"] * 20


@contextmanager
def hanging() -> Iterator[Cameras]:
    """Three cameras, each of which hangs until all are closed."""
    hold = threading.Event()
    try:
        with Cameras(names(3), open_source=opener([[hold], [hold], [hold]])) as cameras:
            assert cameras.take(0.1) is None
            yield cameras
    finally:
        hold.set()


def test_hanging_cameras_are_left_together() -> None:
    with hanging():
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2 * JOIN_S


def test_hanging_cameras_are_replaced_together() -> None:
    with hanging() as cameras:
        began_s = time.monotonic()
        cameras.replace(names(3), names(3))
        assert time.monotonic() - began_s < 2 * JOIN_S


def test_stream_that_waits_for_the_opening_of_others_is_lost_not_hung_and_opens_at_last() -> None:
    hold = threading.Event()
    opened: list[str] = []

    def opened_in_turn(config: CameraConfig) -> Source:
        opened.append(str(config.source))
        if "silent" in opened[-1]:
            hold.wait(PATIENCE_S)
        return Endless(0.01)

    silent = CameraConfig(source="rtsp://silent/", open_timeout_s=2 * PATIENCE_S)
    good = CameraConfig(source="rtsp://good/", open_timeout_s=0.2, read_timeout_s=0.1)
    with Cameras({"silent": silent}, open_source=opened_in_turn):
        wait_until(lambda: opened)
        with Cameras({"good": good}, open_source=opened_in_turn) as cameras:
            wait_until(lambda: "other cameras" in cameras.status("good").reason)
            assert cameras.status("good").state is CaptureState.LOST
            assert opened == ["rtsp://silent/"]
            hold.set()
            wait_until(lambda: cameras.status("good").state is CaptureState.LIVE)
            assert cameras.status("good").hung == 0


def test_camera_that_cannot_begin_ends_those_that_have() -> None:
    before = set(threading.enumerate())
    configs = {"c": CameraConfig(source=0), "b": CameraConfig(source="/nowhere/clip.mp4")}
    cameras = Cameras(configs, open_source=lambda _: Endless(0.01))
    try:
        with pytest.raises(InputError, match="/nowhere"):
            cameras.__enter__()
        wait_until(lambda: set(threading.enumerate()) <= before)
    finally:
        cameras.close()
