"""An embedded broker for `edge demo`: amqtt in a thread and event loop of its own.

It listens on the loopback only, needs no login, stores nothing and speaks only MQTT 3.1.1. It does
not answer an MQTT 5 CONNECT, so set `protocol: "3.1.1"`. Use a real broker for anything but a
demonstration.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any, Self

from edge.errors import UnavailableError, install_command

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
# amqtt logs every connection at INFO, and every client that first tries MQTT 5 at WARNING.
_NOISY_LOGGERS = ("amqtt", "transitions")


class EmbeddedBroker:
    """The broker; a context manager that listens while it is entered.

    port: where it listens; a free one is chosen when None.
    Entering raises UnavailableError when amqtt is not installed or the port is taken.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or 0
        self._is_up = threading.Event()
        self._failure: str | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        """Return when clients can connect."""
        self.port = self.port or _free_port()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        if not self._is_up.wait(START_TIMEOUT_S):
            self._failure = f"not up within {START_TIMEOUT_S:.0f} s"
        if self._failure is not None:
            self.close()
            raise UnavailableError(f"embedded broker on port {self.port}: {self._failure}")
        return self

    def __exit__(self, *_: object) -> None:
        """Close the broker."""
        self.close()

    def close(self) -> None:
        """Disconnect all clients and join the thread; idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._is_up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            broker = _make_broker(self.port)
            await broker.start()
        except UnavailableError as error:
            self._failure = str(error)
            return
        except Exception as error:  # noqa: BLE001 - amqtt wraps each failure in classes of its own
            self._failure = f"{error}; choose another port"
            return
        self._is_up.set()
        await self._stop.wait()
        await broker.shutdown()


def _make_broker(port: int) -> Any:
    """Return amqtt's broker, not started.

    Raises UnavailableError when amqtt is not installed.
    """
    try:
        from amqtt.broker import Broker
    except ImportError as error:
        raise UnavailableError(
            f"amqtt is missing ({error}); install it with: {install_command('demo')}"
        ) from None
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    settings = {
        "listeners": {"default": {"type": "tcp", "bind": f"{LOOPBACK}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    return Broker(settings)


def _free_port() -> int:
    """Return a port that was free a moment ago: amqtt does not report the port it is bound to."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
