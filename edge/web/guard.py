"""ASGI middleware: checks the Host header and adds security headers to every response.

A foreign page can make the visitor's browser send requests to this server. So other sites may not
embed or read responses (no CORS, same-origin resource policy). A server bound to the loopback
answers only to the loopback's names; otherwise a foreign name that resolves to 127.0.0.1 (DNS
rebinding) could read the picture.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)
REFUSAL = b'{"status_code":400,"detail":"unknown Host; open the page as localhost"}'


class Guard:
    """Wraps an ASGI application.

    policy: the Content-Security-Policy of all responses.
    hosts: allowed names in the Host header, lower case, IPv6 in brackets; None = any.
    """

    def __init__(self, app: AsgiApp, policy: str, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = [*SECURITY_HEADERS, (b"content-security-policy", policy.encode())]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        if not self._is_allowed(scope):
            await _refuse(send_guarded)
            return
        if scope["method"] == "HEAD":  # such as `wget --spider`; uvicorn leaves the body out
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send_guarded)

    def _is_allowed(self, scope: Message) -> bool:
        if self._hosts is None:
            return True
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and host_name(hosts[0].decode("latin-1")) in self._hosts


def host_name(header: str) -> str:
    """Return the name in a Host header without its port, lower case."""
    name, colon, port = header.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() else header.strip().lower()


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(REFUSAL)).encode()),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})
