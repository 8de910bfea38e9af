"""A TCP relay in front of a broker: it can cut connections, stop forwarding, or refuse MQTT 5."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

LOOPBACK = "127.0.0.1"


class Relay:
    """Forwards bytes between clients and a broker on loopback; a context manager.

    delay_s: how long everything is held back, on each of both ways.
    refuses_mqtt5: a connection whose CONNECT names protocol level 5 is closed without an answer.
    """

    def __init__(
        self, broker_port: int, *, refuses_mqtt5: bool = False, delay_s: float = 0.0
    ) -> None:
        self._delay_s = delay_s
        self._broker_port = broker_port
        self.refuses_mqtt5 = refuses_mqtt5
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._pause = threading.Event()
        self._speaks = threading.Event()
        self._speaks.set()
        self._is_closed = False

    def mute(self) -> None:
        """Hold back the broker's bytes; those of the client still arrive."""
        self._speaks.clear()

    def unmute(self) -> None:
        """Forward the broker's bytes on connections made from now on; cut the others first."""
        self._speaks.set()

    def cut(self) -> None:
        """End all connections at once, on both sides."""
        sockets, self._sockets = self._sockets, []
        for connection in sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self._pause.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        self._speaks.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            first = client.recv(4096)
            if self.refuses_mqtt5 and protocol_level(first) == 5:
                client.close()
                continue
            try:
                broker = socket.create_connection((LOOPBACK, self._broker_port))
            except OSError:
                client.close()
                continue
            broker.sendall(first)
            self._sockets += [client, broker]
            self._start(self._forward, client, broker, False)
            self._start(self._forward, broker, client, True)

    def _forward(self, source: socket.socket, target: socket.socket, is_broker: bool) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65_536):
                if is_broker:
                    self._speaks.wait(30)
                self._pause.wait(self._delay_s)
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


def protocol_level(connect: bytes) -> int:
    """The byte after the protocol's name in a CONNECT packet, 0 when it is none."""
    at = connect.find(b"\x00\x04MQTT")
    return connect[at + 6] if at >= 0 else 0
