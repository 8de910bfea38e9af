"""A connection that ends when nothing comes of it. Imports uvicorn: `server` imports this."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

ANSWERED_S = 20.0  # for asking and for taking the answer, also of a large picture over a slow radio


class BoundedConnection(H11Protocol):
    """Ends when its next answer is not delivered within ANSWERED_S.

    uvicorn waits for a request, and for a client that does not read, without end; a few dozen such
    clients would keep all others away from the page and from `/healthz`.
    """

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_anew()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._wait_anew()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        if self._limit is not None:
            self._limit.cancel()
        super().connection_lost(exc)

    def _wait_anew(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(ANSWERED_S, self.transport.abort)
