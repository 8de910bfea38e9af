"""Reports the daemon's state to programs on the same board: a Unix socket in the state directory.

A client gets one JSON document and the end of the stream. Nothing is read from the connection, so
it accepts no commands. Every user who may enter the directory may connect.
A socket that cannot be made, or a client that does not read, never stops the daemon.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

logger = logging.getLogger(__name__)

NAME = "status.sock"
SEND_S = 2.0  # for a client to read the answer
MAX_BYTES = 1024 * 1024
_PAUSE_S = 1.0  # after a failed accept, e.g. without free file descriptors


class StatusSocket:
    """Answers while it is entered.

    state_dir: must exist. report: returns the JSON; called in the socket's own thread.
    """

    def __init__(self, state_dir: Path, report: Callable[[], bytes]) -> None:
        self._state_dir = state_dir
        self._report = report
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def __enter__(self) -> Self:
        """Listen; when that fails, log it and continue without the socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short_name(self._state_dir) as folder:
                with suppress(FileNotFoundError):  # a killed daemon may have left its socket
                    Path(folder, NAME).unlink()
                listener.bind(f"{folder}/{NAME}")
            listener.listen(8)
        except OSError as error:
            listener.close()
            logger.warning("status.no_socket dir=%s error=%s", self._state_dir, error)
            return self
        self._listener = listener
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, join and remove the socket; a second time does nothing."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SEND_S + _PAUSE_S)
        listener.close()
        with suppress(OSError):
            (self._state_dir / NAME).unlink()

    def _serve(self) -> None:
        listener = self._listener
        while listener is not None and not self._stop.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                self._stop.wait(_PAUSE_S)
                continue
            with client, suppress(OSError):
                client.settimeout(SEND_S)
                client.sendall(self._report())


def ask(state_dir: Path, timeout_s: float = 5.0) -> bytes | None:
    """Return the report of the daemon of a state directory, None when none answers.

    Cut off after about MAX_BYTES. Raises PermissionError when this user may not connect,
    TimeoutError when the daemon is there and silent.
    """
    report = bytearray()
    try:
        with _short_name(state_dir) as folder, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(f"{folder}/{NAME}")
            while len(report) < MAX_BYTES and (part := client.recv(65_536)):
                report += part
    except (PermissionError, TimeoutError):
        raise
    except OSError:
        return None
    return bytes(report) or None


@contextmanager
def _short_name(folder: Path) -> Iterator[str]:
    """Yield a short path of a folder, valid in the block: a socket's path has at most 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
