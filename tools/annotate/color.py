"""Label colors on a page in the browser: `edge-tools annotate color DATASET`.

The server listens on the loopback interface only. Each object is shown with a proposed mask
(GrabCut from its box or from your clicks) and proposed colors; Enter accepts, a key corrects. Every
answer is saved to a JSON file beside the pictures before the next object is shown; started again,
the page continues with the first object without a label. `tools.color.data.label_file` describes
the file, `tools.color.data.export` the training data that `--export` writes.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import ColorConfig
from edge.errors import WebError
from edge.model_store import find
from tools.arguments import option, share_or_all
from tools.color.data.label_file import LabelFile, opened
from tools.color.data.objects import LabelObject, labels_path, read_objects

if TYPE_CHECKING:
    import uvicorn

    from edge.web.guard import AsgiApp

EXAMPLES = """\
examples:
  edge-tools annotate color pictures/                 # a folder: click on the object
  edge-tools annotate color train.json --open         # COCO: every box is an object
  edge-tools annotate color train.json --labeller 2   # an independent second opinion
  edge-tools annotate color train.json --export data  # then: edge-tools train color --data data
"""
HOST = "127.0.0.1"
DEFAULT_PORT = 8765
DEFAULT_MODEL = ColorConfig().model
CLOSE_S = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "dataset", type=Path, help="folder of pictures or of `data import`, or COCO JSON with boxes"
    )
    parser.add_argument("--images", type=Path, help="where the JSON's pictures are")
    parser.add_argument("--split", help="only this split, where the JSON has splits")
    parser.add_argument("--labels", type=Path, help="keep labels here, not beside the pictures")
    parser.add_argument("--labeller", type=int, choices=(1, 2), default=1, help="who you are")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="color model that proposes; default: %(default)s"
    )
    option(parser, "--port", int, DEFAULT_PORT, "0 takes a free one")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write training data and end")
    option(parser, "--val-share", share_or_all, 0.1, "of the pictures, for --export")


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted, or export what was labelled.

    Raises InputError for a data set that cannot be read, EdgeError for labels that cannot be
    written or that another command writes, WebError when the port is taken.
    """
    objects = read_objects(args.dataset, args.images, args.split)
    path = args.labels or labels_path(args.dataset)
    if args.export:
        from tools.color.data.export import export

        counts = export(objects, LabelFile(path), args.export, args.val_share)
        print(f"{args.export}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
        return 0
    with opened(path, "--labels") as labels:
        _serve(args, objects, labels)
    return 0


def _serve(args: argparse.Namespace, objects: list[LabelObject], labels: LabelFile) -> None:
    """Serve the page until interrupted."""
    from tools.annotate.routes import make_app
    from tools.annotate.session import Session
    from tools.color.pixels.proposal import Proposer

    session = Session(objects, labels, Proposer(find(args.model)), args.labeller)
    server = _server(make_app(session))
    with _listen(args.port) as listener:
        _stop_on_signals(server)
        done = session.progress()
        url = f"http://localhost:{listener.getsockname()[1]}"
        print(f"{done.labelled} of {done.total} labelled in {labels.path}", flush=True)
        print(f"label at {url}  (Ctrl-C ends; nothing is lost)", flush=True)
        if args.open:
            webbrowser.open(url)
        server.run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        fault = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise WebError(f"{HOST}:{port}: {fault}; choose another with --port") from None


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Let Ctrl-C and SIGTERM stop the server cleanly, also before it sets its own handlers."""

    def end(number: int, frame: object) -> None:
        del number, frame
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _server(app: AsgiApp) -> uvicorn.Server:
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=CLOSE_S,
        )
    )
