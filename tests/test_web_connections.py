"""The status page's server on many, silent, slow and malformed connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from edge.web import WebServer
from edge.web.server import MAX_CONNECTIONS
from served import Site, httpx, raw
from waiting import wait_until

connection = pytest.importorskip("edge.web.connection", reason="the extra `web` is not installed")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with WebServer(site.config, site.view):
        yield site


def test_connections_are_limited_and_accepted_again_when_some_close(site: Site) -> None:
    site.view.tell_camera("front", "live", is_paused=False)
    site.view.tell_progress()
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held: list[socket.socket] = []
    answers = []
    for _ in range(MAX_CONNECTIONS + 1):
        held.append(socket.create_connection(("127.0.0.1", site.config.port), timeout=20))
        held[-1].sendall(request)
        answers.append(held[-1].recv(4096).partition(b"\r\n")[0])
    for one in held:
        one.close()
    assert b" 200 " in answers[0]
    assert b" 503 " in answers[-1]
    wait_until(lambda: b" 200 " in raw(site, request))


def test_silent_connections_time_out_and_block_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.web.connection.ANSWERED_S", 0.5)
    site.view.tell_camera("front", "live", is_paused=False)
    site.view.tell_progress()
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held = [
        socket.create_connection(("127.0.0.1", site.config.port), timeout=20)
        for _ in range(MAX_CONNECTIONS + 1)
    ]
    held[0].sendall(request[:-2])  # never finished
    held[1].sendall(request + request[:-2])
    wait_until(lambda: b" 200 " in raw(site, request))
    for one in held:
        with one, suppress(ConnectionResetError):
            while one.recv(4096):  # a time-out would raise
                pass


@pytest.mark.parametrize("first", [b"ZZ\r\n", b"5\r\nhello\r\n"])
def test_malformed_body_ends_the_connection_and_logs_nothing(
    site: Site, caplog: pytest.LogCaptureFixture, first: bytes
) -> None:
    request = b"HEAD /schema HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.config.port), timeout=20) as client:
        client.sendall(request + first)
        with suppress(ConnectionResetError, BrokenPipeError):
            while client.recv(4096):  # a time-out would raise
                client.sendall(b"ZZ\r\n")
    assert not caplog.records


def test_connections_that_ask_nothing_do_not_take_all_descriptors(site: Site) -> None:
    held = [
        socket.create_connection(("127.0.0.1", site.config.port), timeout=20)
        for _ in range(connection.MAX_OPEN + 10)
    ]
    for one in held:
        one.setblocking(False)
    wait_until(lambda: sum(map(is_open, held)) == connection.MAX_OPEN)
    for one in held:
        one.close()


def is_open(one: socket.socket) -> bool:
    try:
        one.recv(1)
    except BlockingIOError:
        return True
    except ConnectionResetError:
        pass
    return False


def test_each_answer_gives_a_connection_its_time_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[asyncio.TimerHandle] = []
    start = connection.BoundedConnection._restart_timer

    def counted(one: Any) -> None:
        start(one)
        timers.append(one._timer)

    monkeypatch.setattr(connection.BoundedConnection, "_restart_timer", counted)
    with httpx.Client(timeout=20) as browser:
        for _ in range(3):
            assert browser.get(f"http://127.0.0.1:{site.config.port}/schema").status_code == 200
        wait_until(lambda: len(timers) == 1 + 3)
        assert [timer.cancelled() for timer in timers] == [True] * 3 + [False]
    wait_until(timers[-1].cancelled)
