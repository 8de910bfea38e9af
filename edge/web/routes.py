"""The routes, all GET and read-only. Imports Litestar, so `server` imports this on demand.

Handlers are quick and run in the server's only thread, so pictures are made one at a time.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import HeaderParameter, QueryParameter

from edge import __version__
from edge.messages import EventBody, Health, Info, Stats
from edge.web.picture import Pictures
from edge.web.view import MAX_EVENTS, View

logger = logging.getLogger(__name__)

T = TypeVar("T")
PAGE = Path(__file__).parent / "page"
Viewed = NamedDependency[View]
Pictured = NamedDependency[Pictures]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_EVENTS, description="1 to 100 events.")]
Boxes = Annotated[bool, QueryParameter(description="Draw boxes, labels and colors.")]
Camera = Annotated[str | None, QueryParameter(description="Its name; default: the first.")]
Known = Annotated[str | None, HeaderParameter(name="If-None-Match", description="ETag you have.")]


@get("/", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def page() -> str:
    """Return the page for people."""
    return page_text(PAGE)


@get("/api/info", sync_to_thread=False)
def info(view: Viewed) -> Info:
    """Return version, models and their certificates, cameras, labels."""
    return _known_or_503(view.info)


@get("/api/stats", sync_to_thread=False)
def stats(view: Viewed) -> Stats:
    """Return the newest counters; at most some seconds old."""
    return _known_or_503(view.stats)


@get("/api/events", sync_to_thread=False)
def events(view: Viewed, limit: Limit = 20) -> list[EventBody]:
    """Return the last events, newest first."""
    return [msgspec.json.decode(body, type=EventBody) for body in view.events(limit)]


@get("/api/frame.jpg", media_type="image/jpeg", sync_to_thread=False)
def frame(
    view: Viewed,
    pictures: Pictured,
    camera: Camera = None,
    boxes: Boxes = True,  # noqa: FBT002 - a query parameter
    known: Known = None,
) -> Response[bytes]:
    """Return a camera's newest frame as JPEG; 304 when it is the one whose ETag was sent."""
    cameras = _known_or_503(view.info).cameras
    name = cameras[0] if camera is None else camera
    if name not in cameras:
        raise HTTPException(f"no such camera; known: {', '.join(cameras)}", status_code=404)
    picture = _known_or_503(pictures.newest(name, boxes=boxes))
    tag = f'"{picture.name}"'
    if known is not None and tag in known:  # a proxy may have made it weak: W/"…"
        return Response(b"", status_code=304, headers={"etag": tag})
    return Response(picture.jpeg, headers={"etag": tag})


@get("/healthz", sync_to_thread=False)
def healthz(view: Viewed) -> Response[Health]:
    """Return 200 while frames arrive from each camera or it is being retried, else 503."""
    health = view.health()
    return Response(health, status_code=200 if health.status == "ok" else 503)


def _known_or_503(value: T | None) -> T:
    """Return the value; raise HTTPException (503, ask again) while it is None."""
    if value is None:
        raise HTTPException(
            "not known yet; ask again", status_code=503, headers={"retry-after": "1"}
        )
    return value


def make_app(view: View) -> Litestar:
    """Return the application that serves a view."""
    pictures = Pictures(view)
    return Litestar(
        [page, info, stats, events, frame, healthz],
        dependencies={
            "view": Provide(lambda: view, sync_to_thread=False),
            "pictures": Provide(lambda: pictures, sync_to_thread=False),
        },
        openapi_config=OpenAPIConfig(
            title="edge",
            version=__version__,
            description="Read-only view of a camera daemon.",
            path="/schema",
            render_plugins=[JsonRenderPlugin()],
            use_handler_docstrings=True,
        ),
        exception_handlers={Exception: _explain},
        logging_config=None,
    )


def _explain(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Return an error as JSON, on every route; an unexpected error is logged, not shown."""
    if not isinstance(error, HTTPException):
        logger.error("web.failed path=%s", request.scope["path"], exc_info=error)
        error = HTTPException("failed, see the daemon's log", status_code=500)
    fault = {"status_code": error.status_code, "detail": error.detail}
    return Response(
        {**fault, "extra": error.extra} if error.extra else fault,
        status_code=error.status_code,
        media_type=MediaType.JSON,
        headers=error.headers,
    )


def page_text(folder: Path) -> str:
    """Return a folder's page as one file, with its style and script inside."""
    text = (folder / "page.html").read_text("utf-8")
    for name in ("style.css", "script.js"):
        text = text.replace(f"/* {name} */", (folder / name).read_text("utf-8"))
    return text


def content_policy(text: str) -> str:
    """Return the Content-Security-Policy that allows only the page's own style and script."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(_between(text, tag)).digest()).decode()}'"
        for tag in ("style", "script")
    )
    return (
        f"default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; style-src {style}; "
        f"script-src {script}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _between(text: str, tag: str) -> bytes:
    return text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].encode()
