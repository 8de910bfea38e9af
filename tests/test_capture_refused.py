"""Sources that cannot be read are refused in one line, or retried where they may recover."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from edge.capture import Camera, CaptureState, check_source, open_source, read_image
from edge.config import CameraConfig
from edge.errors import CameraError, ConfigError, InputError
from pictures import FAST_RETRY, PATIENCE_S
from waiting import wait_until


@pytest.mark.parametrize("source", ["/nowhere/clip.mp4", "/nowhere/photo.jpg", "nowhere"])
def test_missing_file_is_refused_on_enter(source: str):
    config = CameraConfig(source=source)
    with pytest.raises(InputError, match=f"{source}: no such file"), Camera("a", config):
        pass
    with pytest.raises(InputError, match=f"{source}: no such file"):
        open_source(config)


def test_inaccessible_source_is_refused_with_the_reason():
    with pytest.raises(InputError, match="File name too long"):
        check_source(CameraConfig(source="/tmp/" + "n" * 300))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("name", ["clip.mp4", "photo.png", "folder"])
def test_source_in_a_folder_without_permission_is_refused_with_the_reason(
    tmp_path: Path, name: str
):
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=f"{name}: Permission denied"):
            check_source(CameraConfig(source=str(tmp_path / name)))
    finally:
        os.seteuid(0)


def test_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=r"clip\.mp4: no permission to read it"):
        check_source(CameraConfig(source=str(tmp_path / "clip.mp4")))


def test_video_whose_name_would_crash_opencv_is_refused(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    path.touch()
    with pytest.raises(InputError, match="its name is not UTF-8; rename it"):
        check_source(CameraConfig(source=str(path)))


def test_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(InputError, match="no images in this folder"):
        check_source(CameraConfig(source=str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00 ftypisom" + bytes(200)])
def test_file_that_is_not_a_video_is_an_error_in_take(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with Camera("a", CameraConfig(source=str(path))) as camera:
        with pytest.raises(InputError, match=r"broken\.mp4: not a video"):
            camera.take(PATIENCE_S)
        assert camera.status.state is CaptureState.LOST
        assert camera.status.reconnects == 0


def test_looping_folder_of_broken_images_does_not_spin(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"no")
    with (
        Camera("a", CameraConfig(source=str(tmp_path), loop=True, realtime=False)) as camera,
        pytest.raises(InputError, match="no picture in it can be read"),
    ):
        camera.take(PATIENCE_S)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut off", b"text"])
def test_unreadable_image_is_an_input_error(tmp_path: Path, content: bytes):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"photo\.jpg: not an image"):
        read_image(path)


def test_folder_is_no_image(tmp_path: Path):
    with pytest.raises(InputError, match=r"^\S+: cannot be read: .*Is a directory"):
        read_image(tmp_path)


def test_heic_is_refused_with_the_way_out(tmp_path: Path):
    (tmp_path / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(InputError, match=r"photo\.HEIC: HEIC cannot be decoded; convert it"):
        read_image(tmp_path / "photo.HEIC")


@pytest.mark.skipif(
    cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has GStreamer"
)
def test_error_for_a_pipeline_without_gstreamer_names_the_fix():
    config = CameraConfig(source="libcamerasrc ! videoconvert ! appsink")
    with pytest.raises(CameraError, match="python3-opencv"):
        check_source(config)


@pytest.mark.parametrize("scheme", ["rtps", "RTPS", "q"])
def test_error_for_a_mistyped_protocol_names_the_usual_ones(scheme: str):
    config = CameraConfig(source=f"{scheme}://user:secret@cam/1")
    with pytest.raises(ConfigError, match=rf"{scheme}://\*\*\*@cam/1: no .* have rtsp:// or"):
        check_source(config)


@pytest.mark.parametrize("scheme", ["rtsp", "RTSP", "rtsps", "http", "srt", "udp"])
def test_protocols_of_cameras_are_not_refused(scheme: str):
    check_source(CameraConfig(source=f"{scheme}://cam/1"))


@pytest.mark.parametrize("source", [63, "63", "/dev/video63"])
def test_missing_camera_is_retried_and_reported(source: int | str):
    with Camera("a", CameraConfig(source=source, **FAST_RETRY)) as camera:
        wait_until(lambda: camera.status.reconnects >= 2)
        assert camera.status.state is CaptureState.LOST
        assert "/dev/video63: no such camera" in camera.status.reason
        assert camera.take(0) is None
