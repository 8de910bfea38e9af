"""The HTTP server of the metrics: few threads, and no patience with slow clients."""

from __future__ import annotations

import io
import socket
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

REQUEST_S = 5.0  # for a client to ask
MAX_CLIENTS = 16  # at one time; each holds a thread, of which the unit allows the daemon a number


class Server(ThreadingMixIn, WSGIServer):
    """Serves an application; answers MAX_CLIENTS at one time and closes further connections.

    Making one listens. Raises OSError when the address cannot be had, UnicodeError when the host
    cannot be a name.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.address_family, *_, address = addresses[0]
        self._free = threading.Semaphore(MAX_CLIENTS)
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no further thread can be started
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer; runs in the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _Handler(WSGIRequestHandler):
    """Gives up a client that is slow to ask, or has gone; logs nothing."""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Request(self.connection))

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


class _Request(io.RawIOBase):
    """Reads a socket for REQUEST_S in all, however often a client sends a byte."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._end_s = time.monotonic() + REQUEST_S

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Return how many bytes were read. Raises TimeoutError when the time is over."""
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)
