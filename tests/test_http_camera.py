"""A camera on a real HTTP server that sends motion JPEG, goes and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import pytest

from edge.capture import Camera, CaptureState
from edge.config import CameraConfig
from pictures import FAST_RETRY, PATIENCE_S, gray_level, level_of, wait_until


class MotionJpeg(BaseHTTPRequestHandler):
    """Endless multipart JPEG, until the server is told to stop."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        jpeg = cv2.imencode(".jpg", gray_level(100))[1].tobytes()
        try:
            while not self.server.stop.wait(0.02):
                head = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % len(jpeg) + jpeg + b"\r\n")
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


class MotionJpegServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), MotionJpeg)
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def leave(self) -> None:
        self.stop.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


@pytest.fixture
def web_camera() -> Iterator[MotionJpegServer]:
    server = MotionJpegServer()
    yield server
    server.leave()


def test_http_stream_is_read_and_comes_back_after_the_server_did(web_camera: MotionJpegServer):
    port = web_camera.server_address[1]
    config = CameraConfig(source=f"http://127.0.0.1:{port}/video", read_timeout_s=2, **FAST_RETRY)
    with Camera("a", config) as camera:
        frame = camera.take(PATIENCE_S)
        assert frame is not None
        assert level_of(frame) == 5
        web_camera.leave()
        wait_until(lambda: camera.status.state is CaptureState.LOST)
        seen = camera.status.frames
        server = MotionJpegServer(port)
        wait_until(lambda: camera.status.frames > seen)
        assert camera.status.state is CaptureState.LIVE
    server.leave()
