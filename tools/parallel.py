"""The same function on many items: in this process, on a process pool, or on a Dask cluster.

At most `QUEUE_PER_WORKER` items for each worker are under way, so that a million items cost no more
memory than a hundred. An item that fails is reported and ends nothing else. A worker process that
dies (killed, out of memory) is replaced; what it had in hand is run again, one item at a time, so
that the one item which kills its worker is found and named. On Dask the scheduler does the same.

A function that writes files must write each under a name that depends on its item alone, and in
one step (`os.replace`): then an item that was run twice leaves its output once.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from typing import Any, Generic, TypeVar

from edge.errors import EXIT_UNAVAILABLE, EdgeError, brief
from tools.arguments import count

QUEUE_PER_WORKER = 4
CONNECT_S = 10

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerError(EdgeError):
    """A worker died on an item, or no cluster answers."""

    exit_code = EXIT_UNAVAILABLE


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """One item's outcome: `result`, or the `error` that its function raised.

    index: the item's place in the sequence that was given.
    """

    index: int
    item: Item
    result: Result | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """Why it failed, as one line."""
        text = str(self.error) if isinstance(self.error, EdgeError) else repr(self.error)
        return " ".join(text.split())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --workers and --dask."""
    parser.add_argument(
        "--workers",
        type=count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes on this machine; default: one a core",
    )
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="run on this Dask scheduler (tcp://host:8786) instead"
    )


def run_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    dask: str | None = None,
    title: str,
) -> Generator[Done[Item, Result], None, None]:
    """Yield the outcome of `function(item)` for every item, once each, as they finish.

    function: importable by the workers (of a module, or a partial of one); items and results are
    pickled. workers: processes; 1 runs in this one. dask: a scheduler's address, which takes the
    place of processes; its workers need this package, and files under the same paths.
    title: what the progress bar says.
    Who may leave before the end closes it (`contextlib.closing`): the garbage collector may come in
    the pool's own thread, which cannot wait for itself.
    Raises WorkerError when the scheduler does not answer.
    """
    if dask is not None:
        outcomes = _on_dask(function, items, dask)
    elif workers > 1 and len(items) > 1:
        outcomes = _on_processes(function, items, min(workers, len(items)))
    else:
        outcomes = (_call(function, index, item) for index, item in enumerate(items))
    yield from _shown(outcomes, len(items), title)


def _call(function: Callable[[Item], Result], index: int, item: Item) -> Done[Item, Result]:
    try:
        return Done(index, item, function(item))
    except Exception as error:  # noqa: BLE001 - reported with its item; the rest goes on
        return Done(index, item, error=error)


def _shown(
    outcomes: Iterator[Done[Item, Result]], total: int, title: str
) -> Iterator[Done[Item, Result]]:
    """Yield the outcomes beside a progress bar, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, title, total, console=Console(stderr=True))


def _on_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Done[Item, Result]]:
    waiting = deque(range(len(items)))
    while waiting:
        suspects: list[int] = []  # under way when a worker died
        yield from _until_broken(function, items, waiting, workers, suspects)
        alone = deque(suspects)
        while alone:
            guilty: list[int] = []
            yield from _until_broken(function, items, alone, 1, guilty)
            for index in guilty:
                yield Done(index, items[index], error=WorkerError("its worker process died"))


def _until_broken(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    waiting: deque[int],
    workers: int,
    suspects: list[int],
) -> Iterator[Done[Item, Result]]:
    """Take items from `waiting` till none is left or a worker dies; then fill `suspects`.

    A single worker has one item at a time, so that it is known which killed it.
    """
    queue = 1 if workers == 1 else QUEUE_PER_WORKER * workers
    _start_server()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), _begin_worker)
    running: dict[Future[Done[Item, Result]], int] = {}
    try:
        while (waiting or running) and not suspects:
            while waiting and len(running) < queue:
                index = waiting[0]
                with _undisturbed():  # it starts workers, who need a whole pool
                    running[pool.submit(_call, function, index, items[index])] = index
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(index)
                else:
                    yield _outcome(future, index, items[index])
    except BrokenProcessPool:  # refused by submit
        pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    yield from _drained(running, items, suspects)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block, where Python would raise KeyboardInterrupt."""
    struck: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, _: struck.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if struck:
        raise KeyboardInterrupt


def _drained(
    running: dict[Future[Done[Item, Result]], int], items: Sequence[Item], suspects: list[int]
) -> Iterator[Done[Item, Result]]:
    """Yield what a broken pool had finished; the rest of what it had in hand are suspects."""
    for future, index in running.items():
        if future.cancelled() or isinstance(future.exception(), BrokenProcessPool):
            suspects.append(index)
        else:
            yield _outcome(future, index, items[index])


def _outcome(future: Future[Done[Item, Result]], index: int, item: Item) -> Done[Item, Result]:
    error = future.exception()
    if isinstance(error, Exception):  # the item or its result cannot be pickled
        return Done(index, item, error=error)
    return future.result()


def _start_server() -> None:
    """Start the process that workers are forked from, with Ctrl-C blocked: that is the parent's.

    Workers inherit it, so that none is struck before `_begin_worker` runs.
    """
    resource_tracker.ensure_running()  # would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(1)


def _on_dask(
    function: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Iterator[Done[Item, Result]]:
    """Run on a cluster; Dask gives a dead worker's items to another."""
    from distributed import as_completed

    with connect(address) as client:
        cores = sum(client.nthreads().values())
        waiting = iter(enumerate(items))
        running: dict[str, tuple[int, Item]] = {}
        futures = as_completed(loop=client.loop)
        for _ in range(max(QUEUE_PER_WORKER * cores, QUEUE_PER_WORKER)):
            _submit(client, function, waiting, running, futures)
        for future in futures:
            if future.key in running:
                index, item = running.pop(future.key)
                yield _gathered(future, index, item)
            future.release()
            _submit(client, function, waiting, running, futures)


def _submit(
    client: Any,
    function: Callable[[Item], Result],
    waiting: Iterator[tuple[int, Item]],
    running: dict[str, tuple[int, Item]],
    futures: Any,
) -> None:
    for index, item in waiting:
        future = client.submit(_call, function, index, item, pure=False)
        running[future.key] = (index, item)
        futures.add(future)
        return


def _gathered(future: Any, index: int, item: Item) -> Done[Item, Result]:
    from distributed.scheduler import KilledWorker

    try:
        outcome: Done[Item, Result] = future.result()
    except KilledWorker as error:
        return Done(
            index, item, error=WorkerError(f"killed its worker {error.allowed_failures + 1} times")
        )
    except Exception as error:  # noqa: BLE001 - not picklable, or not importable at the worker
        return Done(index, item, error=error)
    return outcome


def connect(address: str) -> Any:
    """Return a Dask client; WorkerError when nobody answers or there is no worker."""
    from distributed import Client

    # Says at each lost worker that its results are computed again, which is no news to the user.
    logging.getLogger("distributed.client").setLevel(logging.ERROR)
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
        client.wait_for_workers(1, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        reason = brief(error)
        raise WorkerError(
            f"--dask {address}: {reason}; start `dask scheduler` and `dask worker {address}`"
        ) from None
    return client
