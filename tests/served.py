"""A served status page whose view and clock the test controls."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import pytest

from edge.config import WebConfig
from edge.web import View
from fakes import FakeClock
from mosquitto import free_port

pytest.importorskip("litestar", reason="the extra `web` is not installed")
httpx = pytest.importorskip("httpx", reason="the extra `web` is not installed")

# No TLS here, and loading the authorities takes longer than a request.
QUICK: dict[str, Any] = {"timeout": 20, "verify": False}


class Site:
    """A served view with a clock that the test controls."""

    def __init__(self) -> None:
        self.clock = FakeClock(1000.0)
        self.view = View(self.clock)
        self.config = WebConfig(enabled=True, port=free_port())

    def get(self, path: str, **headers: str) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.config.port}{path}", headers=headers, **QUICK)


def raw(site: Site, request: bytes) -> bytes:
    """The first line of an answer; nothing when the connection is given up before it."""
    with (
        suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", site.config.port), timeout=20) as client,
    ):
        client.sendall(request)
        return client.recv(4096).partition(b"\r\n")[0]
    return b""
