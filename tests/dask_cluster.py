"""A real Dask scheduler and its workers, as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mosquitto import free_port
from waiting import wait_until

ROOT = Path(__file__).parents[1]
START_S = 60
PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"  # set where edge was imported, as in this process

Cluster = tuple[str, list[subprocess.Popen[bytes]]]


@contextlib.contextmanager
def running(folder: Path, workers: int) -> Iterator[Cluster]:
    """The address of a scheduler with workers, and all their processes, it first."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    processes = [start(*scheduler, log=folder / "scheduler.log")]
    logs = [folder / f"worker{number + 1}.log" for number in range(workers)]
    processes += [
        start(*worker, "--local-directory", str(folder / log.stem), log=log) for log in logs
    ]
    try:
        wait_until(
            lambda: all("Registered to:" in log.read_text() for log in logs), timeout_s=START_S
        )
        yield address, processes
    finally:
        for process in processes[::-1]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def start(*words: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a Dask command in a group of its own: a nanny's child dies with it."""
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            stdout=file,
            stderr=file,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != PIXEL_LIMIT},
            start_new_session=True,
        )
