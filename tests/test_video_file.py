"""What a video file states of itself: its rate, its length, its pictures' times and size."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge import MAX_PIXELS
from edge.capture import open_source, source
from edge.config import CameraConfig
from edge.errors import InputError
from pictures import gray_level


class Stated:
    """A `cv2.VideoCapture` of a file that states what it is given."""

    def __init__(
        self, fps: float = 50, frames: float = 10, size: tuple[int, int] = (64, 48)
    ) -> None:
        self.opened_as: tuple[Any, ...] = ()
        self.is_released = False
        width, height = map(float, size)
        self._stated = {
            cv2.CAP_PROP_FPS: fps,
            cv2.CAP_PROP_FRAME_COUNT: frames,
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
        }

    def __call__(self, *words: Any) -> Stated:
        self.opened_as = words
        return self

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's
        return True

    def get(self, key: int) -> float:
        return self._stated[key]

    def release(self) -> None:
        self.is_released = True


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a name that ffmpeg would take for an address, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "12:30.avi"
    path.touch()
    return path


def opened(monkeypatch: pytest.MonkeyPatch, path: Path, video: Stated) -> source.Source:
    monkeypatch.setattr(cv2, "VideoCapture", video)
    config = CameraConfig(source=path.name, open_timeout_s=3, read_timeout_s=1.5)
    return open_source(config)


def test_frames_and_their_times_are_those_of_the_file(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (64, 48))
    for _ in range(3):
        writer.write(gray_level(20))
    writer.release()
    video = open_source(CameraConfig(source=str(path)))
    times_s = [video.seen_s]
    while video.read() is not None:
        times_s.append(video.seen_s)
    video.close()
    assert (video.is_live, video.fps, video.frames) == (False, 50, 3)
    assert times_s == pytest.approx([0, 0, 0.02, 0.04])


def test_file_is_opened_by_its_whole_path_and_with_time_limits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Stated()
    opened(monkeypatch, path, video)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 3000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1500]
    assert video.opened_as == (str(path), cv2.CAP_FFMPEG, limits)


@pytest.mark.parametrize(("chosen", "options"), [(None, [cv2.CAP_PROP_N_THREADS, 2]), ("1", [])])
def test_stream_has_two_decoder_threads_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, options: list[int]
) -> None:
    monkeypatch.delenv("OPENCV_FFMPEG_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OPENCV_FFMPEG_THREADS", chosen)
    video = Stated()
    monkeypatch.setattr(cv2, "VideoCapture", video)
    open_source(CameraConfig(source="rtsp://camera/1"))
    assert video.opened_as[2][4:] == options


@pytest.mark.parametrize("chosen", [None, "rtsp_transport;udp"])
def test_options_of_streams_are_set_with_the_first_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    key = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    options: list[str | None] = []
    monkeypatch.setenv(key, chosen or "")
    if chosen is None:
        monkeypatch.delenv(key)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: options.append(os.getenv(key)) or Stated())
    for address in (path.name, "rtsp://camera/1"):
        open_source(CameraConfig(source=address))
    assert options == [chosen, chosen or "rtsp_transport;tcp|fpsprobesize;2"]


def test_mpeg_ts_file_has_its_rate_also_after_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(source.FFMPEG_OPTIONS, source.STREAM_OPTIONS)
    path = tmp_path / "clip.ts"
    code = cv2.VideoWriter.fourcc(*"MPG2")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10.0, (64, 48))
    for level in range(40):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    clip = open_source(CameraConfig(source=str(path)))
    assert clip.fps == 10
    clip.close()


@pytest.mark.parametrize(
    ("stated", "fps"),
    [(0.5, 0.5), (1000, 1000), (1001, 25), (0, 25), (-1, 25), (math.nan, 25)],
)
def test_file_without_a_possible_rate_has_the_usual_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, stated: float, fps: float
) -> None:
    assert opened(monkeypatch, path, Stated(fps=stated)).fps == fps


@pytest.mark.parametrize(
    ("stated", "shown_s", "frames"),
    [
        (10, None, 10),
        (10, 0.115, 6),  # the edit list hides the rest
        (10, 1.0, 10),
        (1, None, 1),
        (0, None, 0),
        (-1, None, 0),
        (math.nan, None, 0),
        (2**31 - 1, None, 2**31 - 1),
        (2**31, None, 0),
    ],
)
def test_frames_of_a_file_are_those_it_shows_or_none_where_it_states_no_possible_number(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stated: float,
    shown_s: float | None,
    frames: int,
) -> None:
    monkeypatch.setattr(source.edit_list, "shown_s", lambda _: shown_s)
    assert opened(monkeypatch, path, Stated(frames=stated)).frames == frames


def test_file_of_huge_pictures_is_refused_before_one_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(monkeypatch, path, Stated(size=(MAX_PIXELS, 1)))
    huge = Stated(size=(MAX_PIXELS + 1, 1))
    with pytest.raises(InputError, match=r"12:30\.avi: \d+x1 is over \d+ pixels"):
        opened(monkeypatch, path, huge)
    assert huge.is_released
