"""`run_tasks`: every item once, on a pool and on a cluster, also when workers are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, _base
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest

from edge.errors import InputError
from tools import parallel
from tools.parallel import QUEUE_PER_WORKER, WorkerError, run_tasks
from waiting import is_running, wait_until


def square(number: int) -> int:
    if number == 3:
        raise InputError("three: is never squared")
    return number * number


def die_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(item: tuple[int, str]) -> int:
    """Kill the first worker that takes item 5; the file remembers it."""
    number, flag = item
    if number == 5 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave_pid(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_has_one_result_and_a_failure_stops_nothing(workers: int):
    done = sorted(
        run_tasks(square, range(20), workers=workers, title="squares"), key=lambda d: d.index
    )
    assert [item.index for item in done] == list(range(20))
    assert [item.result for item in done if item.error is None] == [
        n * n for n in range(20) if n != 3
    ]
    (failed,) = [item for item in done if item.error]
    assert (failed.item, failed.reason) == (3, "three: is never squared")
    timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)  # else the command ends 5 s later


def test_item_that_kills_its_worker_is_named_and_the_rest_is_processed():
    done = list(run_tasks(die_at_seven, range(20), workers=2, title="deaths"))
    assert sorted(item.index for item in done) == list(range(20))
    (failed,) = [item for item in done if item.error]
    assert failed.item == 7
    assert isinstance(failed.error, WorkerError)


def test_worker_that_dies_once_loses_nothing(tmp_path: Path):
    items = [(number, str(tmp_path / "died")) for number in range(20)]
    done = list(run_tasks(die_once, items, workers=2, title="deaths"))
    assert (tmp_path / "died").exists()
    assert sorted(item.result or 0 for item in done if not item.error) == list(range(20))


def test_items_in_flight_are_bounded_by_the_queue():
    class Watched(list[int]):
        taken = 0

        def __getitem__(self, index: int) -> int:  # type: ignore[override]
            self.taken = max(self.taken, index + 1)
            return super().__getitem__(index)

    items = Watched(range(200))
    outcomes = run_tasks(square, items, workers=2, title="squares")
    next(outcomes)
    assert items.taken <= 2 * 2 * QUEUE_PER_WORKER
    outcomes.close()


def test_item_that_cannot_be_pickled_fails_alone():
    done = list(run_tasks(str, [1, lambda: None, 3], workers=2, title="texts"))  # type: ignore[arg-type, list-item]
    assert [item.index for item in done if item.error] == [1]


def test_ctrl_c_stops_the_pool_without_a_traceback_from_workers():
    script = (
        "import os, signal, sys\n"
        # A shell's background job, which pytest may be, starts with Ctrl-C ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.path.insert(0, 'tests')\n"
        "from test_parallel import square\n"
        "from tools.parallel import run_tasks\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        for n, done in enumerate(run_tasks(square, range(10**6), workers=2, title='x')):\n"
        "            if n == 5: os.killpg(os.getpgid(0), signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert done.stdout == "stopped\n"
    assert done.stderr == ""


def test_caller_that_stops_does_not_wait_for_items_that_run_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parallel, "GRACE_S", 0.2)
    with contextlib.closing(run_tasks(time.sleep, [0, 60, 60], workers=2, title="sleep")) as done:
        assert next(done).index == 0
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 20


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", range(40, 400, 12))
def test_ctrl_c_while_results_are_awaited_leaves_no_lock_that_the_pool_needs(line: int):
    """`concurrent.futures.wait`, interrupted, keeps locks without which the pool never ends."""
    left = [line]

    def struck(frame: FrameType, event: str, _: Any) -> Any:
        """Strike at the given line that the main thread runs in the futures' module."""
        if event == "line" and frame.f_code.co_filename == _base.__file__:
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGINT)
        return struck

    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcomes = run_tasks(square, range(10**6), workers=2, title="squares")
    try:
        sys.settrace(struck)
        with contextlib.closing(outcomes), pytest.raises(KeyboardInterrupt):
            deque(outcomes)
    finally:
        sys.settrace(None)


def test_ctrl_c_waits_for_workers_that_are_being_started(monkeypatch: pytest.MonkeyPatch):
    submit, submitted = ProcessPoolExecutor.submit, []

    def struck(pool: ProcessPoolExecutor, *words: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        submitted.append(submit(pool, *words))
        return submitted[-1]

    monkeypatch.setattr(ProcessPoolExecutor, "submit", struck)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        list(run_tasks(square, [1, 2], workers=2, title="squares"))
    assert len(submitted) == 1


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("server", "missing port number in address 'server'"),
        ("tls://127.0.0.1:9", "no certificate: Dask's configuration has none"),
    ],
)
def test_address_that_dask_refuses_is_a_one_line_error(tmp_path: Path, address: str, fault: str):
    pytest.importorskip("distributed")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").touch()
    words = ["data", "import", str(tmp_path), "--format", "folders", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tools", *words, "--dask", address],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == WorkerError.exit_code
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"edge-tools: --dask {address}: {fault}")


def test_unreachable_scheduler_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("tools.parallel.CONNECT_S", 0.5)
    with pytest.raises(WorkerError, match=r"^--dask tcp://127\.0\.0\.1:9: .*dask scheduler"):
        list(run_tasks(square, [1], workers=1, dask="tcp://127.0.0.1:9", title="x"))


def test_item_that_takes_long_is_waited_for_while_there_are_workers(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(parallel, "WORKERLESS_S", 0.01)
    ended: SimpleQueue[str] = SimpleQueue()

    class Client:
        def nthreads(self) -> dict[str, int]:
            ended.put("a future")
            return {"worker": 1}

    assert parallel._next_ended(ended, Client(), "tcp://127.0.0.1:9") == "a future"


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("CommClosedError", "Stream is closed", "the connection to the scheduler was lost"),
        ("RuntimeError", "Error during deserialization of the task graph.", "install this version"),
    ],
)
def test_fault_of_the_scheduler_is_not_the_items(kind: str, text: str, fault: str):
    comm = pytest.importorskip("distributed.comm")

    class Lost:
        def result(self) -> None:
            raise getattr(comm, kind, RuntimeError)(text)

    with pytest.raises(WorkerError, match=fault):
        parallel._gathered(Lost(), 0, "a.jpg", "tcp://127.0.0.1:9")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path, number: signal.Signals):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, 'tests')\n"
        "from test_parallel import leave_pid\n"
        "from tools.parallel import run_tasks\n"
        "if __name__ == '__main__':\n"
        "    list(run_tasks(leave_pid, [Path(sys.argv[1])] * 10**6, workers=2, title='x'))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL) as run:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, 60)
        run.send_signal(number)
    workers = [int(file.name) for file in tmp_path.iterdir()]
    try:
        wait_until(lambda: not any(map(is_running, workers)))
    finally:
        for worker in filter(is_running, workers):
            os.kill(worker, signal.SIGKILL)
