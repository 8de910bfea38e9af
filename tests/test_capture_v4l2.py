"""V4L2 cameras and pipelines with a fake of OpenCV's VideoCapture: test machines have neither."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.capture import open_source, source
from edge.capture.reader import EndCause, Reader
from edge.config import CameraConfig
from edge.errors import CameraError
from edge.values import Image

IMAGE = np.full((48, 64, 3), 7, np.uint8)
SIZE_KEYS = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)


class Device:
    """A `cv2.VideoCapture` of /dev/video3.

    script: what each read gives, None for nothing. size: what it says of its pictures.
    """

    def __init__(
        self, script: list[Image | None], *, is_free: bool = True, size: tuple[int, int] = (64, 48)
    ) -> None:
        self.opened_as: tuple[int, ...] = ()
        self.properties: dict[int, float] = {}
        self.is_released = False
        self._script = script
        self._is_free = is_free
        self._told = dict(zip(SIZE_KEYS, map(float, size), strict=True))

    def __call__(self, *words: int) -> Device:
        self.opened_as = words
        return self

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's
        return self._is_free

    def set(self, key: int, value: float) -> None:
        self.properties[key] = value

    def get(self, key: int) -> float:
        return self._told.get(key, 0.0)

    def read(self) -> tuple[bool, Image | None]:
        image = self._script.pop(0)
        return image is not None, image

    def release(self) -> None:
        self.is_released = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every device exists and is accessible."""
    monkeypatch.setattr(source.Path, "exists", lambda _path: True)
    monkeypatch.setattr(source.os, "access", lambda *_: True)


def opened(
    monkeypatch: pytest.MonkeyPatch, device: Device, **settings: float | str
) -> source.Source:
    monkeypatch.setattr(cv2, "VideoCapture", device)
    return open_source(CameraConfig(source="/dev/video3", **settings))


@pytest.mark.usefixtures("board")
def test_size_rate_and_smallest_buffer_are_requested_from_the_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, plain = Device([IMAGE]), Device([])
    camera = opened(monkeypatch, device, width=1280, height=720, fps=15, pixel_format="MJPG")
    assert device.opened_as == (3, cv2.CAP_V4L2)
    newest = {cv2.CAP_PROP_BUFFERSIZE: 1}
    assert device.properties == newest | {
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 15,
        cv2.CAP_PROP_FOURCC: int.from_bytes(b"MJPG", "little"),
    }
    assert next(iter(device.properties)) == cv2.CAP_PROP_FOURCC
    assert (camera.is_live, camera.fps, camera.frames) == (True, 0, 0)
    np.testing.assert_array_equal(camera.read(), IMAGE)
    camera.close()
    assert device.is_released
    opened(monkeypatch, plain)
    assert plain.properties == newest


@pytest.mark.usefixtures("board")
def test_damaged_pictures_are_skipped_until_too_many_in_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged: list[Image | None] = [None] * source.MAX_BAD_READS
    camera = opened(monkeypatch, Device([*damaged, IMAGE, *damaged, None]))
    for has_recovered in (True, False):
        for _ in damaged:
            with pytest.raises(ValueError, match="damaged picture"):
                camera.read()
        assert (camera.read() is not None) == has_recovered


@pytest.mark.usefixtures("board")
def test_error_for_a_busy_camera_asks_who_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device([], is_free=False)
    hint = r"is another program, or another camera of the config, using it\?"
    with pytest.raises(CameraError, match=f"/dev/video3: {hint}"):
        opened(monkeypatch, device)
    assert device.is_released
    assert device.properties == {}


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("is_free", [True, False])
@pytest.mark.parametrize(
    ("name", "is_module"), [("unicam-image", True), ("rp1-cfe-csi2_ch0", True), ("HD Cam", False)]
)
def test_reason_names_the_way_to_the_camera_module_of_a_raspberry_pi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, is_module: bool, is_free: bool
) -> None:
    (tmp_path / "video3").mkdir()
    (tmp_path / "video3" / "name").write_text(f"{name}\n")
    monkeypatch.setattr(source, "VIDEO_CLASS", tmp_path)
    monkeypatch.setattr(cv2, "VideoCapture", Device([None] * 20, is_free=is_free))
    woken = threading.Event()
    config = CameraConfig(source="/dev/video3")
    reader = Reader(config, open_source, lambda *_: None, lambda: None, woken)
    reader.start()
    assert woken.wait(20)
    outcome = reader.outcome()
    assert outcome is not None
    assert outcome.cause is EndCause.LOST
    assert ("tcp://127.0.0.1:8888" in outcome.reason) is is_module


@pytest.mark.usefixtures("board")
def test_camera_of_huge_pictures_is_given_back_before_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device([IMAGE], size=(40_000, 10_000))
    with pytest.raises(CameraError, match=r"/dev/video3: 40000x10000 is over \d+ pixels"):
        opened(monkeypatch, device)
    assert device.is_released


@pytest.mark.usefixtures("board")
def test_error_for_a_camera_without_permission_names_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source.os, "access", lambda _path, mode: not mode & os.W_OK)
    with pytest.raises(CameraError, match=r"/dev/video3: no permission; .* group video"):
        opened(monkeypatch, Device([]))


def test_pipeline_is_opened_as_written_when_it_ends_in_an_appsink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    device, begin = Device([IMAGE, None]), "libcamerasrc user-pw=secret ! videoconvert"
    monkeypatch.setattr(cv2, "VideoCapture", device)
    pipeline = open_source(CameraConfig(source=f"{begin} ! appsink"))
    assert device.opened_as == (f"{begin} ! appsink", cv2.CAP_GSTREAMER)
    assert (pipeline.is_live, pipeline.read() is not None, pipeline.read()) == (True, True, None)
    with pytest.raises(CameraError, match=r"user-pw=\*\*\* ! \w+: end the pipeline with"):
        open_source(CameraConfig(source=begin))
    monkeypatch.setattr(cv2, "VideoCapture", Device([], is_free=False))
    with pytest.raises(CameraError, match=r"user-pw=\*\*\* .* appsink: try gst-launch-1\.0"):
        open_source(CameraConfig(source=f"{begin} ! appsink"))


def test_error_for_a_dangling_camera_link_names_the_device(tmp_path: Path) -> None:
    link = tmp_path / "usb-cam"
    link.symlink_to("/dev/video63")
    with pytest.raises(CameraError, match=r"cannot open /dev/video63: no such camera"):
        source._v4l2_index(CameraConfig(source=str(link)))
