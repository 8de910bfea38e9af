"""Cameras whose hardware or driver fails: they are given up, opened again, and nothing hangs."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.allowance import Allowance
from edge.backoff import Backoff
from edge.capture import (
    Camera,
    CaptureState,
)
from edge.capture import camera as camera_module
from edge.capture.camera import LOGGED_AT_ONCE
from edge.capture.reader import GRACE_S, Reader
from edge.capture.source import checked
from edge.config import CameraConfig
from edge.errors import CameraError
from edge.logs.facts import facts_of
from edge.values import Image
from fakes import FakeSource
from pictures import FAST_RETRY, PATIENCE_S, gray_level, level_of
from waiting import wait_until


def free_readers(pipe: Path) -> None:
    """Unblock every reader that waits for the other end of the pipe."""
    with contextlib.suppress(OSError):  # no reader waits
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def test_hung_reader_is_abandoned_and_replaced_and_ends_later(tmp_path: Path):
    pipe = tmp_path / "pipe.mjpeg"
    os.mkfifo(pipe)  # opening it blocks inside the system, beyond any time-out of ffmpeg
    config = CameraConfig(source=str(pipe), open_timeout_s=0.2, **FAST_RETRY)
    before = threading.active_count()
    with Camera("a", config) as camera:
        wait_until(lambda: camera.status.hung >= 2)
        assert camera.status.state is CaptureState.LOST
        began_s = time.monotonic()
        assert camera.take(0.05) is None
        assert time.monotonic() - began_s < PATIENCE_S / 2
    wait_until(lambda: free_readers(pipe) or threading.active_count() == before)


def test_reader_that_hangs_while_it_closes_its_source_is_abandoned():
    release = threading.Event()

    class Stuck(FakeSource):
        def close(self) -> None:
            release.wait()

    config = CameraConfig(source=63, read_timeout_s=0.05, **FAST_RETRY)
    with Camera("a", config, open_source=lambda _: Stuck([gray_level(20)])) as camera:
        try:
            wait_until(lambda: camera.status.hung >= 1)
        finally:
            release.set()


def test_no_more_readers_are_started_while_too_many_hang():
    release = threading.Event()
    opened: list[FakeSource] = []

    def hang(_: CameraConfig) -> FakeSource:
        opened.append(FakeSource([release]))
        return opened[-1]

    config = CameraConfig(source=63, open_timeout_s=0.01, read_timeout_s=0.01, **FAST_RETRY)
    with Camera("a", config, open_source=hang) as camera:
        wait_until(lambda: camera.status.hung == 4)
        threads = threading.active_count()
        time.sleep(0.3)  # several retry times: nothing may happen
        assert (len(opened), threading.active_count()) == (4, threads)
        release.set()
        wait_until(lambda: len(opened) > 4)
    wait_until(lambda: all(source.is_closed for source in opened))


@pytest.mark.parametrize(
    ("source", "has_hint"), [("libcamerasrc ! videoconvert ! appsink", True), (63, False)]
)
def test_a_hanging_pipeline_names_what_to_try(
    monkeypatch: pytest.MonkeyPatch, source: str | int, *, has_hint: bool
):
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    release = threading.Event()
    config = CameraConfig(source=source, open_timeout_s=0.01, **FAST_RETRY)

    def hang(_: CameraConfig) -> FakeSource:
        release.wait()
        return FakeSource([])

    with Camera("a", config, open_source=hang) as camera:
        try:
            wait_until(lambda: camera.status.hung)
            assert ("try gst-launch-1.0" in camera.status.reason) is has_hint
        finally:
            release.set()


def test_camera_of_which_all_attempts_hang_for_long_asks_for_a_new_process(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(camera_module, "STUCK_S", 0.3)
    release = threading.Event()
    asked_s: list[float] = []

    def hang(_: CameraConfig) -> FakeSource:
        asked_s.append(time.monotonic())
        return FakeSource([release])

    config = CameraConfig(source=63, open_timeout_s=0.01, read_timeout_s=0.01, **FAST_RETRY)
    try:
        with Camera("a", config, open_source=hang) as camera:
            with pytest.raises(CameraError, match="camera a: 4 attempts hang"):
                wait_until(lambda: camera.take(0.05))
            assert time.monotonic() - asked_s[-1] >= GRACE_S + 0.3
            assert camera.status.hung == 4
    finally:
        release.set()


def test_leaving_a_camera_does_not_wait_for_its_time_out():
    class Endless(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.01)
            return gray_level(20)

    config = CameraConfig(source=63, read_timeout_s=30)
    with Camera("a", config, open_source=lambda _: Endless([])) as camera:
        wait_until(lambda: camera.status.frames)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize("is_live", [True, False])
def test_frames_of_an_abandoned_reader_are_discarded(*, is_live: bool):
    release = threading.Event()
    late = FakeSource([release, gray_level(200)], is_live=is_live, fps=100)
    sources = iter([late, FakeSource([gray_level(20)] * 3, is_live=is_live, fps=100)])
    config = CameraConfig(source=63, read_timeout_s=0.05, **FAST_RETRY)

    def opener(_: CameraConfig) -> FakeSource:
        return next(sources, None) or FakeSource([threading.Event()])

    with Camera("a", config, open_source=opener) as camera:
        wait_until(lambda: camera.status.frames == 3)
        release.set()
        wait_until(lambda: late.is_closed)
        frame = camera.take(0)
        assert frame is not None
        assert (level_of(frame), camera.status.frames) == (1, 3)


def test_source_that_opens_after_its_reader_was_abandoned_is_closed_unread():
    release = threading.Event()
    late = FakeSource([gray_level(200)] * 3)
    first = iter([late])

    def opener(_: CameraConfig) -> FakeSource:
        source = next(first, None)
        if source is None:
            return FakeSource([gray_level(20), threading.Event()])
        release.wait()
        return source

    config = CameraConfig(source=63, open_timeout_s=0.05, **FAST_RETRY)
    with Camera("a", config, open_source=opener) as camera:
        wait_until(lambda: camera.status.frames == 1)
        release.set()
        wait_until(lambda: late.is_closed)
        assert camera.status.frames == 1


def test_invalid_frames_are_counted_and_skipped():
    bad = [ValueError("no picture")] * 3
    script = [gray_level(20), *bad, gray_level(40, (32, 32))]
    opener = lambda _: FakeSource([*script, threading.Event()])  # noqa: E731
    with Camera("a", CameraConfig(source=63), open_source=opener) as camera:
        wait_until(lambda: camera.status.frames == 2)
        assert camera.status.bad_frames == 3
        frame = camera.take(0)
        assert frame is not None
        assert frame.size == (32, 32)


def test_damaged_picture_after_long_good_ones_is_only_skipped():
    class Slow(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.2)
            return super().read()

    script = [*[gray_level(20)] * 6, ValueError("damaged"), gray_level(40), threading.Event()]
    config = CameraConfig(source=63, read_timeout_s=1)
    with Camera("a", config, open_source=lambda _: Slow(script)) as camera:
        wait_until(lambda: camera.status.frames == 7)
        assert (camera.status.bad_frames, camera.status.reconnects) == (1, 0)


def test_source_whose_every_picture_is_refused_is_lost_with_the_reason():
    class TwoChannels(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.01)
            return checked(np.zeros((5, 5, 2), np.uint8))

    config = CameraConfig(source=63, read_timeout_s=1, **FAST_RETRY)
    with Camera("a", config, open_source=lambda _: TwoChannels([])) as camera:
        wait_until(lambda: camera.status.reconnects >= 1)
        assert camera.status.bad_frames > 1
        assert (
            camera.status.reason
            == "every picture is refused: 2 bytes a pixel; make the source give BGR"
        )


def test_crash_of_the_supervisor_is_not_taken_for_end_of_file(monkeypatch: pytest.MonkeyPatch):
    def no_thread(_: Reader) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Reader, "start", no_thread)
    with (
        Camera("a", CameraConfig(source=63), open_source=lambda _: FakeSource([])) as camera,
        pytest.raises(RuntimeError, match="can't start new thread"),
    ):
        camera.take(PATIENCE_S)


@pytest.mark.parametrize(
    "pixels",
    [
        None,
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5, 3), np.uint16),
        np.zeros((5, 5, 2), np.uint8),
    ],
)
def test_checked_refuses_arrays_that_are_not_pictures(pixels):
    with pytest.raises(ValueError, match=r"no picture|bytes a pixel"):
        checked(pixels)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 4), (5, 4, 3)])
def test_checked_makes_three_channels(shape: tuple[int, ...]):
    assert checked(np.zeros(shape, np.uint8)).shape == (5, 4, 3)


LEAVE_A_STALLED_CAMERA = """
import sys
from edge.capture import Camera, end_process_if_hanging
from edge.config import CameraConfig
with Camera("a", CameraConfig(source=sys.argv[1], open_timeout_s=60)):
    print("entered", flush=True)
    sys.stdin.readline()
end_process_if_hanging(7)
sys.exit(1)
"""


def test_process_with_a_stalled_camera_ends_with_its_own_exit_code():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live"
        child = subprocess.Popen(
            [sys.executable, "-c", LEAVE_A_STALLED_CAMERA, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "entered\n"
        connection = silent.accept()[0]  # the reader is inside OpenCV now
        child.communicate("leave\n", timeout=PATIENCE_S)
        connection.close()
    assert child.returncode == 7


def test_camera_is_asked_again_after_growing_waits_and_each_attempt_counts():
    asked_s: list[float] = []
    is_seen = threading.Event()

    def fail(_: CameraConfig) -> FakeSource:
        asked_s.append(time.monotonic())
        if len(asked_s) == 4:
            is_seen.wait()
        raise CameraError("unplugged")

    config = CameraConfig(source=63, retry_min_s=0.1, retry_max_s=0.4)
    with Camera("a", config, open_source=fail) as camera:
        wait_until(lambda: len(asked_s) == 4)
        status = camera.status
        is_seen.set()
    assert (status.reconnects, status.hung, status.reason) == (3, 0, "unplugged")
    waits_s = [after - before for before, after in itertools.pairwise(asked_s[:4])]
    least_s = (0.1 / 2, 0.2 / 2, 0.4 / 2)  # with the greatest jitter
    assert all(wait_s >= least for wait_s, least in zip(waits_s, least_s, strict=True)), waits_s


def test_life_of_a_camera_is_counted_from_its_first_picture(
    monkeypatch: pytest.MonkeyPatch,
):
    class Slow(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.05)
            return super().read()

    lived_s: list[float] = []
    monkeypatch.setattr(Backoff, "reset_after", lambda _self, held_s: lived_s.append(held_s))
    config = CameraConfig(source=0, **FAST_RETRY)
    with Camera("a", config, open_source=lambda _: Slow([gray_level(1)] * 3)):
        wait_until(lambda: len(lived_s) >= 2)  # else it would be asked again without a pause
    assert min(lived_s) >= 0.15
    assert max(lived_s) < PATIENCE_S


def test_camera_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "edge.capture")

    def logged(name: str) -> list[object]:
        return [facts_of(record)["fields"][name] for record in caplog.records]

    config = CameraConfig(source=63, **FAST_RETRY)
    with Camera("a", config, open_source=lambda _: FakeSource([gray_level(20)])) as camera:
        wait_until(lambda: camera.status.reconnects >= 20)
        assert logged("state") == ["live", "lost"] * (LOGGED_AT_ONCE // 2)
        assert logged("changes") == [1] * LOGGED_AT_ONCE
        camera._may_log = Allowance(1, 0)  # a minute later
        wait_until(lambda: len(caplog.records) > LOGGED_AT_ONCE)
    assert len(caplog.records) == LOGGED_AT_ONCE + 1
    assert logged("changes")[-1] >= 20 - LOGGED_AT_ONCE
