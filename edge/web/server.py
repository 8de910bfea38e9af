"""The web server: uvicorn in a thread of its own, on a socket that is bound before it starts.

Its failure never stops the daemon: errors after the start are only logged.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Self

from edge.config import WebConfig, in_url
from edge.errors import ConfigError, WebError, install_command
from edge.web.guard import LOOPBACK_NAMES, Guard
from edge.web.view import View

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 32  # answered at one time; a browser holds up to six
IDLE_S = 5
CLOSE_S = 2  # for responses in progress at stop


class WebServer:
    """Serves a view while it is entered; does nothing when the config disables it."""

    def __init__(self, config: WebConfig, view: View) -> None:
        """Take the address to listen on and the view to serve."""
        self._config = config
        self._view = view
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Listen and start serving.

        Raises ConfigError when the extra is not installed, WebError when the port is taken.
        """
        if not self._config.enabled or self._thread is not None:
            return self
        check_installed(self._config)
        listener = _listen(self._config)
        is_open = not _is_loopback(listener)  # the thread, once started, closes the listener
        self._server = self._make_server(listener)
        self._thread = threading.Thread(target=_serve, args=(self._server, listener), name="web")
        self._thread.start()
        url = f"http://{in_url(self._config.host)}:{self._config.port}"
        logger.info("web.started url=%s", url)
        if is_open:
            logger.warning(
                "web.open host=%s anyone on that network can see the page", self._config.host
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and join; a second time does nothing."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._server = self._thread = None

    def _make_server(self, listener: socket.socket) -> uvicorn.Server:
        import uvicorn

        from edge.web import routes
        from edge.web.connection import BoundedConnection

        host = self._config.host.lower()
        hosts = LOOPBACK_NAMES | {in_url(host)} if _is_loopback(listener) else None
        policy = routes.content_policy(routes.page_text(routes.PAGE))
        return uvicorn.Server(
            uvicorn.Config(
                Guard(routes.make_app(self._view), policy, hosts),
                loop="asyncio",
                http=BoundedConnection,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="error",  # it warns once per invalid request
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                backlog=MAX_CONNECTIONS,  # so many are accepted before the first can be closed
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=CLOSE_S,
            )
        )


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until stopped; runs in the web thread."""
    with listener:
        try:
            server.run(sockets=[listener])
        except Exception:
            logger.exception("web.died the daemon continues without its page")


def check_installed(config: WebConfig) -> None:
    """Raise ConfigError when the page is enabled and its extra is missing."""
    if not config.enabled:
        return
    for name in ("litestar", "uvicorn"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ConfigError(
                f"web.enabled: {name} is missing; run: {install_command('web')}"
            ) from None


def _listen(config: WebConfig) -> socket.socket:
    """Return a listening socket; raise WebError when the address cannot be bound."""
    where = f"web: {in_url(config.host)}:{config.port}"
    try:
        addresses = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
        family, *_, address = addresses[0]
        return socket.create_server((str(address[0]), config.port), family=family)
    except (socket.gaierror, UnicodeError):
        raise WebError(f"{where}: no such host; name an address of this machine") from None
    except OSError as error:
        fault = os.strerror(error.errno) if error.errno else str(error)
        raise WebError(f"{where}: {fault}; choose another web.port or web.host") from None


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback
