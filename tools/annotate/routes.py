"""The HTTP routes of the labelling page. Handlers run one at a time, in one thread."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, Response, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.params import JSONBody, PathParameter, QueryParameter

from edge.errors import EdgeError
from edge.web.guard import LOOPBACK_NAMES, AsgiApp, Guard, Message, Receive, Send
from edge.web.routes import content_policy, page_text
from tools.annotate.session import (
    Answer,
    Marks,
    ObjectState,
    OutdatedError,
    Progress,
    Session,
    Suggestion,
)

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
Labelled = NamedDependency[Session]
Index = Annotated[int, PathParameter(ge=0, description="Number of the object, from 0.")]
After = Annotated[int, QueryParameter(description="Number of an object; -1: none.")]


@get("/", media_type=MediaType.HTML, sync_to_thread=False)
def page() -> str:
    """Return the page."""
    return page_text(PAGE)


@get("/api/progress", sync_to_thread=False)
def progress(session: Labelled, after: After = -1) -> Progress:
    """Return the progress, with the next object without a label after `after`."""
    return session.progress(after)


@get("/api/objects/{index:int}", sync_to_thread=False)
def state(session: Labelled, index: Index) -> ObjectState:
    """Return one object with its proposal and its saved answer."""
    return session.state(_known(session, index))


@get("/api/objects/{index:int}/picture.jpg", media_type="image/jpeg", sync_to_thread=False)
def picture(session: Labelled, index: Index) -> bytes:
    """Return the object with its surroundings."""
    return session.jpeg(_known(session, index))


@post("/api/objects/{index:int}/mask", status_code=200, sync_to_thread=False)
def mask(session: Labelled, index: Index, data: JSONBody[Marks]) -> Suggestion:
    """Return the mask for the clicks and the proposed colors."""
    return session.suggest(_known(session, index), data)


@put("/api/objects/{index:int}/label", sync_to_thread=False)
def label(session: Labelled, index: Index, data: JSONBody[Answer]) -> Progress:
    """Save an answer to disk, then return the progress."""
    return session.accept(_known(session, index), data)


@post("/api/undo", status_code=200, sync_to_thread=False)
def undo(session: Labelled) -> dict[str, int | None]:
    """Take back the last answer and return its object."""
    return {"index": session.undo()}


def make_app(session: Session) -> AsgiApp:
    """Return the application, protected from requests of other sites."""
    app = Litestar(
        [page, progress, state, picture, mask, label, undo],
        dependencies={"session": Provide(lambda: session, sync_to_thread=False)},
        openapi_config=None,
        exception_handlers={Exception: _explain},
        logging_config=None,
    )
    return Guard(SameOrigin(app), content_policy(page_text(PAGE)), LOOPBACK_NAMES)


class SameOrigin:
    """Refuses requests with the Origin of another site (cross-site request forgery)."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        sent = dict(scope["headers"])
        origin = sent.get(b"origin")
        if origin is None or origin == b"http://" + sent.get(b"host", b""):
            await self._app(scope, receive, send)
            return
        refusal = b'{"detail":"this page answers only to itself"}'
        kind = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 403, "headers": kind})
        await send({"type": "http.response.body", "body": refusal})


def _known(session: Session, index: int) -> int:
    if index >= len(session.objects):
        raise HTTPException(f"there are {len(session.objects)} objects", status_code=404)
    return index


def _explain(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Return an error as one line of JSON, for the page to show."""
    code, detail = 500, "failed, see the terminal"
    if isinstance(error, HTTPException):
        code, detail = error.status_code, error.detail
        if error.extra:
            detail = f"{detail}: {error.extra}"
    elif isinstance(error, OutdatedError):
        code, detail = 409, str(error)
    elif isinstance(error, EdgeError):  # a broken picture
        code, detail = 422, str(error)
    elif isinstance(error, OSError):  # a full disk
        code, detail = 422, f"not saved: {error.strerror}; mend that, then answer again"
    else:
        logger.error("annotate.failed path=%s", request.scope["path"], exc_info=error)
    return Response({"detail": detail}, status_code=code, media_type=MediaType.JSON)
