"""The optional read-only status page and REST API (`web:` in the config, extra `web`).

The main loop tells `View` what happens, in microseconds; `WebServer` answers from it in a thread
of its own. Pictures are encoded only when somebody asks. Litestar and uvicorn are imported only
when the page is switched on.
"""

from edge.web.server import WebServer, check_installed
from edge.web.view import Health, View

__all__ = ["Health", "View", "WebServer", "check_installed"]
