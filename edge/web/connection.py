"""An HTTP connection with a time limit. Imports uvicorn, so `server` imports this on demand."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

ANSWERED_S = 20.0  # for request and response, including a large picture over a slow radio link
MAX_OPEN = 64  # at one time, also those that ask nothing


class BoundedConnection(H11Protocol):
    """Closes when its next response is not delivered within ANSWERED_S, or with MAX_OPEN open.

    uvicorn waits forever for a request, and for a client that does not read. A few dozen such
    clients would lock all others out of the page and of `/healthz`. It also holds any number of
    connections without a request, which would take all of the daemon's file descriptors.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request; close a connection too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_OPEN:
            transport.abort()
            return
        self._restart_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; close without an answer where it is a request's body.

        uvicorn would answer such a request twice, which fails, and log a traceback for each.
        """
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
            return
        self.cycle.disconnected = True  # drops the answer
        self.transport.close()

    def on_response_complete(self) -> None:
        """Restart the timer for the next request."""
        self._restart_timer()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(ANSWERED_S, self.transport.abort)
