"""A real HTTP server that sends motion JPEG as cameras do: start, stop, start again."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from edge.values import Image


class MotionJpeg(BaseHTTPRequestHandler):
    """Endless multipart JPEG, until the server is told to stop."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        self.server.viewers += 1
        self.server.visits += 1
        try:
            while not self.server.stop.wait(self.server.interval_s):
                jpeg = self.server.jpeg
                self.server.sent += 1
                head = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % len(jpeg) + jpeg + b"\r\n")
        except OSError:
            return
        finally:
            self.server.viewers -= 1

    def log_message(self, *_: object) -> None:
        pass


class MotionJpegServer(ThreadingHTTPServer):
    """Serves one picture again and again; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, bgr: Image, port: int = 0, interval_s: float = 0.02) -> None:
        super().__init__(("127.0.0.1", port), MotionJpeg)
        self.jpeg = cv2.imencode(".jpg", bgr)[1].tobytes()
        self.interval_s = interval_s
        self.sent = self.viewers = self.visits = 0
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/video.mjpg"

    def leave(self) -> None:
        if not self.stop.is_set():
            self.stop.set()
            self.shutdown()
            self.server_close()
            self._thread.join()
