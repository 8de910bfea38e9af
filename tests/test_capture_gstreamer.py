"""GStreamer pipelines, for real where OpenCV has GStreamer: `make test-gstreamer`."""

from __future__ import annotations

import cv2
import pytest

from edge.capture import Camera, CaptureState
from edge.config import CameraConfig
from pictures import FAST_RETRY, PATIENCE_S
from waiting import wait_until

pytestmark = pytest.mark.skipif(
    not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER),
    reason="this OpenCV has no GStreamer: make test-gstreamer",
)
TO_BGR = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"


def pipeline(settings: str, rate: int = 30) -> CameraConfig:
    picture = f"video/x-raw,width=320,height=240,framerate={rate}/1"
    return CameraConfig(source=f"videotestsrc {settings} ! {picture} ! {TO_BGR}", **FAST_RETRY)


def test_pipeline_gives_frames_as_they_come() -> None:
    with Camera("front", pipeline("is-live=true pattern=ball")) as camera:
        frames = [camera.take(PATIENCE_S) for _ in range(6)]
        assert camera.status.state is CaptureState.LIVE
    assert [frame and frame.size for frame in frames] == [(320, 240)] * 6
    assert len({frame.bgr.tobytes() for frame in frames if frame}) > 1


def test_pipeline_that_ends_is_opened_again() -> None:
    with Camera("front", pipeline("is-live=true num-buffers=3")) as camera:
        wait_until(lambda: camera.status.reconnects > 1)
        assert camera.status.frames >= 3


def test_pipeline_that_gstreamer_refuses_names_its_own_check() -> None:
    config = CameraConfig(source=f"filesrc location=/no ! decodebin ! {TO_BGR}", **FAST_RETRY)
    with Camera("front", config) as camera:
        wait_until(lambda: camera.status.reason)
        assert "try gst-launch-1.0" in camera.status.reason
