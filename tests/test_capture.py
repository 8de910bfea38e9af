"""Cameras on real files, folders and pipes; a fake source where hardware fails."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.capture import (
    Camera,
    CaptureState,
    CaptureStatus,
    longest_quiet_s,
    open_source,
)
from edge.capture import camera as camera_module
from edge.capture import reader as reader_module
from edge.capture.reader import GRACE_S
from edge.capture.source import image_paths
from edge.config import CameraConfig
from edge.values import Frame, Image
from fakes import FakeSource
from pictures import PATIENCE_S, gray_level, level_of
from waiting import wait_until


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def take_all(camera: Camera) -> list[Frame]:
    frames = []
    while not camera.is_over:
        frame = camera.take(PATIENCE_S)
        if frame is not None:
            frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 frames of gray levels 20, 40 … 200, 50 frames a second."""
    path = tmp_path_factory.mktemp("clip") / "levels.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (64, 48))
    for index in range(1, 11):
        writer.write(gray_level(20 * index))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, a broken one between them, and a text file."""
    for index in (1, 2, 4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), gray_level(20 * index, (60 + index, 48)))
    (tmp_path / "3.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


# Files


def test_file_read_fast_gives_every_frame_to_a_slow_consumer(clip: Path):
    with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
        frames = []
        while not camera.is_over:
            frame = camera.take(PATIENCE_S)
            if frame is not None:
                frames.append(frame)
                time.sleep(0.01)  # the consumer's work
        status = camera.status
    assert [level_of(frame) for frame in frames] == list(range(1, 11))
    assert [frame.frame_id for frame in frames] == list(range(1, 11))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 50 for i in range(10)])
    assert (status.state, status.dropped, status.frames) == (CaptureState.ENDED, 0, 10)


def test_frame_of_a_file_read_fast_does_not_age_while_it_waits(clip: Path):
    with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
        wait_until(lambda: camera.status.frames == 2)
        time.sleep(0.05)
        asked_s = time.monotonic()
        first = camera.take(PATIENCE_S)
    assert first is not None
    assert first.captured_mono_s >= asked_s


def test_waiting_for_a_slow_consumer_is_not_taken_for_hanging(clip: Path):
    config = CameraConfig(source=str(clip), realtime=False, read_timeout_s=1)
    with Camera("a", config) as camera:
        wait_until(lambda: camera.status.frames == 2)  # the second waits for its turn
        time.sleep(config.read_timeout_s + GRACE_S + 0.1)
        assert len(take_all(camera)) == 10
        assert camera.status.hung == 0


def test_file_read_fast_is_the_same_every_time(clip: Path):
    runs = []
    for _ in range(2):
        with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
            runs.append([(f.frame_id, f.time_s, f.bgr.tobytes()) for f in take_all(camera)])
    assert runs[0] == runs[1]


def test_file_in_realtime_takes_its_recorded_time_and_keeps_the_rhythm(clip: Path):
    began_s = time.monotonic()
    with Camera("a", CameraConfig(source=str(clip))) as camera:
        frames = take_all(camera)
    assert frames[-1].frame_id == 10
    for frame in frames:
        assert frame.captured_mono_s - began_s >= (frame.frame_id - 1) / 50
        assert frame.time_s == frame.captured_mono_s


def test_looping_file_restarts_and_its_time_continues(clip: Path):
    config = CameraConfig(source=str(clip), realtime=False, loop=True)
    with Camera("a", config) as camera:
        frames = [camera.take(PATIENCE_S) for _ in range(25)]
        assert camera.status.state is CaptureState.LIVE
    levels = [level_of(frame) for frame in frames if frame is not None]
    assert levels == list(itertools.islice(itertools.cycle(range(1, 11)), 25))
    assert frames[-1] is not None
    assert frames[-1].time_s == pytest.approx(24 / 50)


def test_folder_gives_its_images_by_name_and_counts_the_broken_one(folder: Path):
    began_s = time.monotonic()
    with Camera("a", CameraConfig(source=str(folder), fps=0.1, realtime=False)) as camera:
        frames = take_all(camera)
        status = camera.status
    assert time.monotonic() - began_s < 10  # at this rate they would take 20 s
    assert [level_of(frame) for frame in frames] == [1, 2, 4]
    assert [frame.size for frame in frames] == [(61, 48), (62, 48), (64, 48)]
    assert (status.frames, status.bad_frames, status.state) == (3, 1, CaptureState.ENDED)


def test_folder_in_realtime_plays_at_the_configured_rate(folder: Path):
    began_s = time.monotonic()
    with Camera("a", CameraConfig(source=str(folder), fps=50, loop=True)) as camera:
        wait_until(lambda: camera.status.frames >= 16)
    took_s = time.monotonic() - began_s
    assert 15 / 50 <= took_s < 14  # one a second would take 15 s


def test_single_image_is_one_frame(folder: Path):
    with Camera("a", CameraConfig(source=str(folder / "2.png"), realtime=False)) as camera:
        assert [level_of(frame) for frame in take_all(camera)] == [2]


def test_open_source_reads_without_threads(clip: Path):
    source = open_source(CameraConfig(source=str(clip)))
    levels = []
    while (bgr := source.read()) is not None:
        levels.append(round(float(bgr.mean()) / 20))
    source.close()
    assert (levels, source.fps) == (list(range(1, 11)), 50)


def test_closed_folder_gives_no_further_image(folder: Path):
    source = open_source(CameraConfig(source=str(folder)))
    assert (source.is_live, source.fps, source.frames, source.seen_s) == (False, 1, 4, 0)
    assert source.read() is not None
    source.close()
    assert source.read() is None


def test_image_paths_of_a_single_image_is_that_image(folder: Path):
    assert image_paths(folder / "1.png") == [folder / "1.png"]


@pytest.mark.parametrize(
    ("fps", "read_timeout_s", "quiet_s"),
    [(0, 5, 6), (0, 0.5, 2), (0.1, 5, 11), (50, 0.5, 1.5)],
)
def test_a_working_source_is_quiet_between_images_or_until_the_read_timeout(
    fps: float, read_timeout_s: float, quiet_s: float
):
    config = CameraConfig(source=0, fps=fps, read_timeout_s=read_timeout_s)
    assert longest_quiet_s(config) == pytest.approx(quiet_s)


@pytest.mark.parametrize(
    ("rotate", "size", "bright"),
    [
        (0, (64, 48), (0, 0)),
        (90, (48, 64), (-1, 0)),
        (180, (64, 48), (-1, -1)),
        (270, (48, 64), (0, -1)),
    ],
)
def test_frames_are_turned_clockwise(
    rotate: int, size: tuple[int, int], bright: tuple[int, int]
) -> None:
    """bright: x and y of what is the upper left pixel of the source."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[0, 0] = 255
    config = CameraConfig(source=63, rotate=rotate)
    script = [image, threading.Event()]
    with Camera("a", config, open_source=lambda _: FakeSource(script)) as camera:
        frame = camera.take(PATIENCE_S)
    assert frame is not None
    assert frame.size == size
    assert frame.bgr.flags.c_contiguous
    x, y = bright
    assert (frame.bgr[y, x] == 255).all()
    assert frame.bgr.sum() == 3 * 255


# Failing hardware


def test_live_frames_never_queue_whatever_realtime_says():
    config = CameraConfig(source=63, realtime=False)
    script = [*map(gray_level, (20, 40, 60)), threading.Event()]
    with Camera("a", config, open_source=lambda _: FakeSource(script)) as camera:
        wait_until(lambda: camera.status.dropped == 2)
        frame = camera.take(PATIENCE_S)
        assert frame is not None
        assert level_of(frame) == 3
        assert frame.time_s == frame.captured_mono_s


@pytest.mark.parametrize("is_live", [True, False])
def test_picture_after_the_read_timeout_counts_only_from_a_file(
    clip: Path, monkeypatch: pytest.MonkeyPatch, is_live: bool
):
    class Late(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.1)
            return super().read()

    monkeypatch.setattr(reader_module, "GRACE_S", PATIENCE_S)
    source = Late([gray_level(20)], is_live=is_live, fps=25)
    config = CameraConfig(source=63 if is_live else str(clip), read_timeout_s=0.05)
    with Camera("a", config, open_source=lambda _: source) as camera:
        wait_until(lambda: source.is_closed)
        assert camera.status.frames == (0 if is_live else 1)


def test_file_may_be_damaged_for_longer_than_the_read_timeout(
    clip: Path, monkeypatch: pytest.MonkeyPatch
):
    class Slow(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.03)
            return super().read()

    monkeypatch.setattr(reader_module, "GRACE_S", PATIENCE_S)
    source = Slow([*[ValueError("damaged")] * 5, gray_level(20)], is_live=False, fps=25)
    config = CameraConfig(source=str(clip), realtime=False, read_timeout_s=0.05)
    with Camera("a", config, open_source=lambda _: source) as camera:
        assert [level_of(frame) for frame in take_all(camera)] == [1]
        assert (camera.status.bad_frames, camera.status.reconnects) == (5, 0)


def test_unexpected_exception_of_a_source_is_raised_and_ends_the_camera():
    opener = lambda _: FakeSource([RuntimeError("driver")])  # noqa: E731
    with Camera("a", CameraConfig(source=63), open_source=opener) as camera:
        with pytest.raises(RuntimeError, match="driver"):
            camera.take(PATIENCE_S)
        wait_until(lambda: "camera-a" not in thread_names())
        assert camera.status.reason == "RuntimeError('driver')"


# Lifecycle


def test_leaving_is_idempotent_and_ends_take_and_threads(clip: Path):
    before = threading.active_count()
    camera = Camera("a", CameraConfig(source=str(clip), loop=True))
    with camera:
        assert camera.take(PATIENCE_S) is not None
    assert "camera-a" not in thread_names()
    camera.__exit__(None, None, None)
    camera.take(0)
    began_s = time.monotonic()
    assert camera.take(PATIENCE_S) is None
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert camera.is_over
    wait_until(lambda: threading.active_count() == before)


def test_leaving_wakes_a_reader_that_waits_for_the_consumer(
    clip: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(camera_module, "JOIN_S", PATIENCE_S)
    with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
        wait_until(lambda: camera.status.frames >= 2)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < PATIENCE_S / 2


def test_every_frame_was_taken_or_counted_once_the_camera_is_left(clip: Path):
    taken = 0
    camera = Camera("a", CameraConfig(source=str(clip), loop=True))
    with camera:
        while camera.status.frames < 5:
            taken += camera.take(PATIENCE_S) is not None
        seen = camera.status.frames
        wait_until(lambda: camera.status.frames > seen)  # one waits in the slot
    status = camera.status
    assert status.frames == taken + status.dropped
    with Camera("a", CameraConfig(source=str(clip), loop=True), before=status) as again:
        frame = again.take(PATIENCE_S)
        assert frame is not None
        assert frame.frame_id == status.frames + 1
        assert again.status.dropped >= status.dropped


def test_a_camera_under_a_new_config_begins_anew_but_keeps_its_counters():
    before = CaptureStatus(CaptureState.LOST, "unplugged", 9, 4, 3, 2, 1)
    status = Camera("a", CameraConfig(source=63), before=before).status
    assert status == CaptureStatus(CaptureState.OPENING, "", 9, 4, 3, 2, 1)


def test_exiting_a_camera_that_was_never_entered_works():
    Camera("a", CameraConfig(source=63)).__exit__(None, None, None)


def test_changes_of_state_are_logged_once_each(clip: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
        take_all(camera)
    states = [record.getMessage().split()[2] for record in caplog.records]
    assert states == ["state=live", "state=ended"]
