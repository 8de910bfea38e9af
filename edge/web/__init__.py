"""The optional read-only status page and REST API (`web:` in the config, extra `web`).

The main loop updates `View`, which takes microseconds; `WebServer` answers from it in a thread of
its own. Pictures are encoded only on request. Litestar and uvicorn are imported only when the page
is enabled.
"""

from edge.web.server import WebServer, check_installed
from edge.web.view import View

__all__ = ["View", "WebServer", "check_installed"]
