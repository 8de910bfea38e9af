"""A camera on a real HTTP server that sends motion JPEG, goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.capture import Camera, CaptureState
from edge.config import CameraConfig
from http_camera import MotionJpegServer
from pictures import FAST_RETRY, PATIENCE_S, gray_level, level_of
from waiting import wait_until


@pytest.fixture
def web_camera() -> Iterator[MotionJpegServer]:
    server = MotionJpegServer(gray_level(100))
    yield server
    server.leave()


def test_scheme_may_be_in_capitals(web_camera: MotionJpegServer):
    config = CameraConfig(source=web_camera.address.replace("http:", "HTTP:"))
    with Camera("a", config) as camera:
        assert camera.take(PATIENCE_S) is not None


def test_http_stream_is_read_and_recovers_with_the_server(web_camera: MotionJpegServer):
    port = web_camera.server_address[1]
    config = CameraConfig(source=web_camera.address, read_timeout_s=2, **FAST_RETRY)
    with Camera("a", config) as camera:
        frame = camera.take(PATIENCE_S)
        assert frame is not None
        assert level_of(frame) == 5
        web_camera.leave()
        wait_until(lambda: camera.status.state is CaptureState.LOST)
        seen = camera.status.frames
        server = MotionJpegServer(gray_level(100), port)
        wait_until(lambda: camera.status.frames > seen)
        assert camera.status.state is CaptureState.LIVE
    server.leave()
