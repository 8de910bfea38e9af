"""Maps a function over many items: in this process, on a process pool, or on a Dask cluster.

At most `QUEUE_PER_WORKER` items per worker are submitted at a time, so that memory does not grow
with the number of items. A failing item is reported; the others continue. A worker process that
dies (killed, out of memory) is replaced, and its items are run again one at a time, so that the one
that kills its worker is identified. On Dask the scheduler does the same.

A function that writes files must write each atomically (`os.replace`) under a name that depends
only on its item, because an item may be run twice.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from multiprocessing import forkserver, resource_tracker
from queue import Empty, SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

from edge.errors import EXIT_FAILURE, EXIT_UNAVAILABLE, EdgeError, brief
from tools.arguments import count
from tools.progress import track

QUEUE_PER_WORKER = 4
CONNECT_S = 10
GRACE_S = 5.0  # for items that run when the caller stops early
WORKERLESS_S = 60  # without a result until workers are counted: time to start another one

Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class WorkerError(EdgeError):
    """A worker died on an item, or no cluster answers."""

    exit_code = EXIT_UNAVAILABLE


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """One item's outcome: `result`, or the `error` that its function raised.

    index: of the item in the given sequence.
    """

    index: int
    item: Item
    result: Result | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """The error as one line."""
        text = str(self.error) if isinstance(self.error, EdgeError) else repr(self.error)
        return " ".join(text.split())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --workers and --dask."""
    parser.add_argument(
        "--workers",
        type=count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes on this machine; default: one per core",
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

    function: importable by the workers (a module's function, or a partial of one); items and
    results are pickled. workers: number of processes; 1: run in this process. dask: address of a
    scheduler to use instead of processes; it and its workers need this package, and they the same
    file paths.
    title: of what `tools.progress.track` tells.
    A caller that may stop early must use `contextlib.closing`: the garbage collector might close
    the generator in the pool's own thread, which cannot join itself. Items that run then have
    GRACE_S to end before their processes are killed.
    Raises WorkerError when the scheduler does not answer, or no longer.
    """
    if dask is not None:
        outcomes = _on_dask(function, items, dask)
    elif workers > 1 and len(items) > 1:
        outcomes = _on_processes(function, items, min(workers, len(items)))
    else:
        outcomes = (_call(function, index, item) for index, item in enumerate(items))
    yield from track(outcomes, title, len(items))


def once_per_thread(make: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `make` with its last result kept, for each thread its own.

    For what is costly to make and not thread-safe, such as interpreters: a Dask worker has several
    threads, and lives longer than a command, so the arguments must tell one file from another that
    replaced it. They must be hashable.
    """
    local = threading.local()

    @wraps(make)
    def cached(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not hasattr(local, "make"):
            local.make = lru_cache(maxsize=1)(make)
        found: Result = local.make(*args, **kwargs)
        return found

    return cached


def _call(function: Callable[[Item], Result], index: int, item: Item) -> Done[Item, Result]:
    try:
        return Done(index, item, function(item))
    except Exception as error:  # noqa: BLE001 - reported with its item
        return Done(index, item, error=error)


def _on_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Done[Item, Result]]:
    waiting = deque(range(len(items)))
    while waiting:
        suspects: list[int] = []  # items that were running when a worker died
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
    """Run items from `waiting` until none is left or a worker dies; then fill `suspects`.

    A single worker gets one item at a time, so that it is known which one killed it.
    """
    queue = 1 if workers == 1 else QUEUE_PER_WORKER * workers
    _start_server()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), _begin_worker)
    running: dict[Future[Done[Item, Result]], int] = {}
    ended: SimpleQueue[Future[Done[Item, Result]]] = SimpleQueue()
    try:
        while (waiting or running) and not suspects:
            while waiting and len(running) < queue:
                index = waiting[0]
                # Deferred: in starting workers, SIGINT would leave a broken pool, and in a future's
                # methods before it is done (also those of `wait`) a lock that the pool needs.
                with _sigint_deferred():
                    future = pool.submit(_call, function, index, items[index])
                    running[future] = index
                    future.add_done_callback(ended.put)
                waiting.popleft()
            future = ended.get()
            index = running.pop(future)
            if isinstance(future.exception(), BrokenProcessPool):
                suspects.append(index)
            else:
                yield _outcome(future, index, items[index])
    except BrokenProcessPool:  # raised by submit
        pass
    finally:
        grace = threading.Timer(GRACE_S, _kill_workers)
        grace.start()
        pool.shutdown(wait=True, cancel_futures=True)
        grace.cancel()
    yield from _drained(running, items, suspects)


def _kill_workers() -> None:
    """Kill the pool's processes; this one starts no others by `multiprocessing`."""
    for worker in multiprocessing.active_children():
        worker.kill()


@contextmanager
def _sigint_deferred() -> Iterator[None]:
    """Defer KeyboardInterrupt (Ctrl-C) to the end of the block."""
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
    """Yield the outcomes that a broken pool had finished; its other items become suspects."""
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
    """Start the fork server with SIGINT blocked, because the parent handles Ctrl-C.

    Workers inherit the mask, so that none is interrupted before `_begin_worker` runs.
    """
    resource_tracker.ensure_running()  # first: starting it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Ignore Ctrl-C, which the parent handles, end with the parent, and use one OpenCV thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    """Wait for the end of the parent, which a signal may have killed, and end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(EXIT_FAILURE)


def _on_dask(
    function: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Iterator[Done[Item, Result]]:
    """Run on a cluster; Dask reassigns a dead worker's items."""
    with connect(address) as client:
        cores = sum(client.nthreads().values())
        waiting = iter(enumerate(items))
        running: dict[Any, tuple[int, Item]] = {}  # by future
        ended: SimpleQueue[Any] = SimpleQueue()
        for _ in range(max(QUEUE_PER_WORKER * cores, QUEUE_PER_WORKER)):
            _submit(client, function, waiting, running, ended)
        while running:
            future = _next_ended(ended, client, address)
            yield _gathered(future, *running.pop(future), address)
            future.release()
            _submit(client, function, waiting, running, ended)


def _submit(
    client: Any,
    function: Callable[[Item], Result],
    waiting: Iterator[tuple[int, Item]],
    running: dict[Any, tuple[int, Item]],
    ended: SimpleQueue[Any],
) -> None:
    for index, item in waiting:
        future = client.submit(_call, function, index, item, pure=False)
        running[future] = (index, item)
        future.add_done_callback(ended.put)
        return


def _next_ended(ended: SimpleQueue[Any], client: Any, address: str) -> Any:
    """Return the next future that is done; WorkerError when all workers have gone."""
    while True:
        try:
            return ended.get(timeout=WORKERLESS_S)
        except Empty:
            if not client.nthreads():
                fault = f"no worker is left; start `dask worker {address}`, then this again"
                raise WorkerError(f"--dask {address}: {fault}") from None


def _gathered(future: Any, index: int, item: Item, address: str) -> Done[Item, Result]:
    """Return the outcome of a future that is done.

    Raises WorkerError if the scheduler has gone, or cannot read the task.
    """
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        outcome: Done[Item, Result] = future.result()
    except (CancelledError, CommClosedError):
        fault = "the connection to the scheduler was lost; what was saved so far is kept"
        raise WorkerError(f"--dask {address}: {fault}, start again") from None
    except RuntimeError:  # `_call` returns those of the function
        fault = "the scheduler cannot read the tasks; install this version of the package there"
        raise WorkerError(f"--dask {address}: {fault}") from None
    except KilledWorker as error:
        return Done(
            index, item, error=WorkerError(f"killed its worker {error.allowed_failures + 1} times")
        )
    except Exception as error:  # noqa: BLE001 - not picklable, or not importable by the worker
        return Done(index, item, error=error)
    return outcome


def _check_certificate(address: str) -> None:
    """Raise ValueError for an address with TLS where Dask's configuration has no certificate."""
    from distributed.security import Security

    is_tls = address.startswith("tls://")
    if is_tls and not Security().get_connection_args("client")["ssl_context"]:
        raise ValueError("no certificate: Dask's configuration has none (distributed.comm.tls)")


def connect(address: str) -> Any:
    """Return a Dask client; WorkerError when no scheduler answers or it has no worker."""
    from distributed import Client
    from distributed.comm import get_address_host_port

    for name in ("distributed", "distributed.client"):  # they report what is retried or raised here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        # A client that refuses its address could not be closed.
        get_address_host_port(address)
        _check_certificate(address)
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
        client.wait_for_workers(1, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        reason = brief(error)
        raise WorkerError(
            f"--dask {address}: {reason}; start `dask scheduler` and `dask worker {address}`"
        ) from None
    return client
