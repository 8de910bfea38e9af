"""Cameras on real files, folders and pipes; a fake source where hardware fails."""

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

from edge.backoff import Backoff
from edge.capture import (
    Camera,
    CaptureState,
    CaptureStatus,
    longest_quiet_s,
    open_source,
)
from edge.capture.reader import GRACE_S, Reader
from edge.capture.source import checked, image_paths
from edge.config import CameraConfig
from edge.errors import CameraError
from edge.values import Frame, Image
from fakes import FakeSource
from pictures import FAST_RETRY, PATIENCE_S, gray_level, level_of, wait_until


def free_readers(pipe: Path) -> None:
    """Unblock every reader that waits for the other end of the pipe."""
    with contextlib.suppress(OSError):  # no reader waits
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


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


def test_waiting_for_a_slow_consumer_is_not_taken_for_hanging(clip: Path):
    config = CameraConfig(source=str(clip), realtime=False, read_timeout_s=0.01)
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
    assert time.monotonic() - began_s >= 9 / 50
    stamps = [frame.captured_mono_s for frame in frames]
    assert stamps[-1] - stamps[0] >= 8 / 50
    assert [frame.time_s for frame in frames] == stamps


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
    with Camera("a", CameraConfig(source=str(folder), fps=20)) as camera:
        stamps = [frame.captured_mono_s for frame in take_all(camera)]
    assert 0.9 * 2 / 20 <= stamps[-1] - stamps[0] < 1.5  # one a second would take 2 s


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


# Failing hardware


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
        assert time.monotonic() - began_s < 0.2 + 1
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


def test_frames_of_an_abandoned_reader_are_discarded():
    release = threading.Event()
    sources = iter([FakeSource([release, gray_level(200)]), FakeSource([gray_level(20)] * 3)])
    config = CameraConfig(source=63, read_timeout_s=0.05, **FAST_RETRY)
    late = next(sources)
    first = iter([late])

    def opener(_: CameraConfig) -> FakeSource:
        return next(first, None) or next(sources, None) or FakeSource([threading.Event()])

    with Camera("a", config, open_source=opener) as camera:
        wait_until(lambda: camera.status.frames == 3)
        release.set()
        wait_until(lambda: late.is_closed)
        frame = camera.take(0)
        assert frame is not None
        assert (level_of(frame), camera.status.frames) == (1, 3)


def test_live_frames_never_queue_whatever_realtime_says():
    config = CameraConfig(source=63, realtime=False)
    script = [*map(gray_level, (20, 40, 60)), threading.Event()]
    with Camera("a", config, open_source=lambda _: FakeSource(script)) as camera:
        wait_until(lambda: camera.status.dropped == 2)
        frame = camera.take(PATIENCE_S)
        assert frame is not None
        assert level_of(frame) == 3
        assert frame.time_s == frame.captured_mono_s


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


def test_source_whose_every_picture_is_refused_is_lost_with_the_reason():
    class TwoChannels(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.01)
            return checked(np.zeros((5, 5, 2), np.uint8))

    config = CameraConfig(source=63, read_timeout_s=0.1, **FAST_RETRY)
    with Camera("a", config, open_source=lambda _: TwoChannels([])) as camera:
        wait_until(lambda: camera.status.reconnects >= 1)
        assert camera.status.bad_frames > 1
        assert (
            camera.status.reason
            == "every picture is refused: 2 bytes a pixel; make the source give BGR"
        )


@pytest.mark.parametrize("is_live", [True, False])
def test_picture_after_the_read_timeout_counts_only_from_a_file(clip: Path, is_live: bool):
    class Late(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.1)
            return super().read()

    source = Late([gray_level(20)], is_live=is_live, fps=25)
    config = CameraConfig(source=63 if is_live else str(clip), read_timeout_s=0.05)
    with Camera("a", config, open_source=lambda _: source) as camera:
        wait_until(lambda: source.is_closed)
        assert camera.status.frames == (0 if is_live else 1)


def test_file_may_be_damaged_for_longer_than_the_read_timeout(clip: Path):
    class Slow(FakeSource):
        def read(self) -> Image | None:
            time.sleep(0.03)
            return super().read()

    source = Slow([*[ValueError("damaged")] * 5, gray_level(20)], is_live=False, fps=25)
    config = CameraConfig(source=str(clip), realtime=False, read_timeout_s=0.05)
    with Camera("a", config, open_source=lambda _: source) as camera:
        assert [level_of(frame) for frame in take_all(camera)] == [1]
        assert (camera.status.bad_frames, camera.status.reconnects) == (5, 0)


def test_crash_of_the_supervisor_is_not_taken_for_end_of_file(monkeypatch: pytest.MonkeyPatch):
    def no_thread(_: Reader) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Reader, "start", no_thread)
    with (
        Camera("a", CameraConfig(source=63), open_source=lambda _: FakeSource([])) as camera,
        pytest.raises(RuntimeError, match="can't start new thread"),
    ):
        camera.take(PATIENCE_S)


def test_unexpected_exception_of_a_source_is_raised_and_ends_the_camera():
    opener = lambda _: FakeSource([RuntimeError("driver")])  # noqa: E731
    with Camera("a", CameraConfig(source=63), open_source=opener) as camera:
        with pytest.raises(RuntimeError, match="driver"):
            camera.take(PATIENCE_S)
        wait_until(lambda: "camera-a" not in thread_names())
        assert camera.status.reason == "RuntimeError('driver')"


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
    assert time.monotonic() - began_s < 1
    assert camera.is_over
    wait_until(lambda: threading.active_count() == before)


def test_leaving_wakes_a_reader_that_waits_for_the_consumer(clip: Path):
    with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
        wait_until(lambda: camera.status.frames >= 2)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 1


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


def test_exiting_a_camera_that_was_never_entered_works():
    Camera("a", CameraConfig(source=63)).__exit__(None, None, None)


def test_changes_of_state_are_logged_once_each(clip: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with Camera("a", CameraConfig(source=str(clip), realtime=False)) as camera:
        take_all(camera)
    states = [record.getMessage().split()[2] for record in caplog.records]
    assert states == ["state=live", "state=ended"]


def test_backoff_grows_to_its_limit_with_jitter_and_starts_again_after_a_good_time():
    backoff = Backoff(1, 8)
    for expected_s in (1, 2, 4, 8, 8):
        assert expected_s / 2 <= backoff.next_s() <= expected_s
    backoff.reset_after(2)
    assert backoff.next_s() >= 4
    backoff.reset_after(9)
    assert backoff.next_s() <= 1


def test_camera_is_asked_again_after_growing_waits_and_each_attempt_counts():
    asked_s: list[float] = []

    def fail(_: CameraConfig) -> FakeSource:
        asked_s.append(time.monotonic())
        raise CameraError("unplugged")

    config = CameraConfig(source=63, retry_min_s=0.1, retry_max_s=0.4)
    with Camera("a", config, open_source=fail) as camera:
        wait_until(lambda: len(asked_s) == 4)
        status = camera.status
    assert (status.reconnects, status.hung, status.reason) == (3, 0, "unplugged")
    waits_s = [after - before for before, after in itertools.pairwise(asked_s[:4])]
    least_s = (0.1 / 2, 0.2 / 2, 0.4 / 2)  # with the greatest jitter
    assert all(wait_s >= least for wait_s, least in zip(waits_s, least_s, strict=True)), waits_s


def test_camera_that_fails_after_one_picture_does_not_reset_the_backoff(
    monkeypatch: pytest.MonkeyPatch,
):
    lived_s: list[float] = []
    monkeypatch.setattr(Backoff, "reset_after", lambda _self, held_s: lived_s.append(held_s))
    config = CameraConfig(source=0, **FAST_RETRY)
    with Camera("a", config, open_source=lambda _: FakeSource([gray_level(1)])):
        wait_until(lambda: len(lived_s) >= 2)  # else it would be asked again without a pause
    assert 0 <= max(lived_s) < PATIENCE_S
