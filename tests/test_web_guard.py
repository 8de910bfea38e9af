"""Who gets past the guard of the status page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edge.web.guard import Guard, host_name


def test_refused_request_never_reaches_the_pages() -> None:
    reached, sent = [], []

    async def pages(scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(scope["headers"])

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(pages, "", frozenset({"gate"}))
    for host in (b"elsewhere.example", b"gate"):
        scope = {"method": "GET", "headers": [(b"host", host)]}
        asyncio.run(guard(scope, None, send))
    assert reached == [[(b"host", b"gate")]]
    assert [message.get("status") for message in sent] == [400, None]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Gate:8080", "gate"),
        ("Gate", "gate"),
        (" gate ", "gate"),
        (" gate:80 ", "gate"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("::1", ":"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_host_name_leaves_the_port_out(header: str, name: str) -> None:
    assert host_name(header) == name
