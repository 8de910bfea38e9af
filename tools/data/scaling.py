"""`edge-tools data scaling`: measures how an import scales with workers, on a pool and on Dask.

The same pictures are imported into temporary folders, once per number of workers. For Dask, a local
scheduler with that many worker processes is started; with --dask, the given cluster is used.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.errors import EXIT_OK, InputError
from tools import parallel
from tools.arguments import count
from tools.data.convert import convert
from tools.data.formats import READERS
from tools.data.importing import add_source, tasks_of

EXAMPLES = """\
examples:
  edge-tools data scaling instances.json --format coco --images pictures --max-side 320
  edge-tools data scaling own --format yolo --workers 1 2 4 8 --dask tcp://host:8786
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_source(parser)
    parser.add_argument(
        "--workers",
        nargs="+",
        type=count,
        default=[1, 2, 4],
        metavar="N",
        help="numbers to time; default: 1 2 4",
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="use this cluster instead of local ones")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="default: the system's")


def run(args: argparse.Namespace) -> int:
    """Print seconds, pictures a second, and the gain over the first row."""
    args.copy = True
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the first row; one run")
    print(f"{'on':<8}{'workers':>8}{'pictures':>10}{'seconds':>10}{'per s':>9}{'gain':>7}")
    first_s = None
    for kind, workers, address in _rows(args):
        count, seconds = _measure(args, workers, address)
        first_s = first_s or seconds
        rate, gain = count / seconds, first_s / seconds
        print(f"{kind:<8}{workers:>8}{count:>10}{seconds:>10.3f}{rate:>9.1f}{gain:>7.2f}")
    return EXIT_OK


def _rows(args: argparse.Namespace) -> Iterator[tuple[str, int, str | None]]:
    for workers in args.workers:
        yield "pool", workers, None
    if args.dask:
        yield "cluster", _size(args.dask), args.dask
        return
    for workers in args.workers:
        with _cluster(workers) as address:
            yield "dask", workers, address


def _measure(args: argparse.Namespace, workers: int, address: str | None) -> tuple[int, float]:
    """Return the number of converted pictures and the seconds taken, including starting workers.

    Raises InputError when no picture could be converted.
    """
    listing = READERS[args.format](args.source, args.images)
    scratch = Path(tempfile.mkdtemp(dir=args.scratch))
    try:
        tasks = tasks_of(listing, args, scratch)
        started_s = time.perf_counter()
        outcomes = parallel.run_tasks(
            convert, tasks, workers=workers, dask=address, title=f"{workers} workers"
        )
        done = sum(outcome.error is None for outcome in outcomes)
        seconds = time.perf_counter() - started_s
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not done:
        raise InputError(f"{args.source}: no picture could be converted; see edge-tools data check")
    return done, seconds


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """Yield the address of a Dask scheduler with single-threaded worker processes."""
    from distributed import LocalCluster

    # Reports every connection, and a closed one with a traceback when the cluster ends.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield str(cluster.scheduler_address)


def _size(address: str) -> int:
    client: Any = parallel.connect(address)
    with client:
        return len(client.scheduler_info(n_workers=-1)["workers"])
