"""`edge-tools soak`: runs the daemon for a long time and checks budgets.

Method: `edge run` on a looping clip, with its own mosquitto, which is stopped for the middle third.
Every SAMPLE_S seconds memory, file descriptors and threads are read from /proc, and counters from
the daemon's socket. The memory slope is a least-squares fit over the samples after the first fifth,
when caches have filled. Spool bytes are the daemon's estimate (pages and log written,
`edge.spool`), reported per day at one event per second, separately with and without the broker.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import yaml

from edge import status_socket
from edge.config import SpoolConfig
from edge.errors import EXIT_FAILURE, EXIT_OK, CameraError, EdgeError, UsageError
from edge.messages import Report
from tools import json_file
from tools.arguments import count, option, positive
from tools.benchmark.frame_path import DEMO_CLIP
from tools.progress import track

EXAMPLES = """examples:
  edge-tools soak --minutes 30
  edge-tools soak --minutes 720 --source /dev/video0 --json soak.json
  edge-tools soak --cameras 4

exit codes: 0 all budgets held; 1 one was broken; 69 a camera gives no frame."""

SAMPLE_S = 5.0
FIRST_FRAME_S = 45.0  # until each camera must have given one
SETTLED = 0.2  # share of the run after which memory should no longer grow
DAY_S = 86_400
STOP_S = 30.0

ALLOWANCE_MB = SpoolConfig().max_write_bytes_per_day / 1e6
# With a broker, nearly all events are acknowledged before they are due to be written to disk.
BROKER_THERE_MB = 200.0
# Upper limits. Without a broker, bytes written are limited by what the config promises.
BUDGETS = {
    "rss_slope_mb_per_hour": 6.0,
    "descriptors_growth": 3.0,
    "threads_growth": 2.0,
    "log_lines_per_minute": 2.0,
    "spool_mb_per_day_broker_there": BROKER_THERE_MB,
    "spool_mb_per_day_broker_away": ALLOWANCE_MB,
    "events_lost": 0.0,
    "exit_code": 0.0,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Measurements at one time.

    silent_cameras: how many gave no frame so far. is_away: whether the broker is stopped.
    """

    at_s: float
    rss_bytes: int
    descriptors: int
    threads: int
    log_lines: int
    events: int
    written_bytes: int
    lost: int
    silent_cameras: int
    is_away: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    option(
        parser,
        "--minutes",
        positive,
        30,
        "a short run may break the budgets of memory and log lines",
        metavar="N",
    )
    parser.add_argument("--source", metavar="S", help="a camera or clip; default: the demo clip")
    option(parser, "--cameras", count, 1, "so many, all with this source", metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save figures and samples")


def run(args: argparse.Namespace) -> int:
    """Print each figure beside its budget; return 1 if one is exceeded."""
    if args.minutes * 60 < 12 * SAMPLE_S:
        raise UsageError(f"--minutes {args.minutes:g}: too short to measure; give at least 1")
    with tempfile.TemporaryDirectory(prefix="edge-soak-") as folder:
        cameras = [args.source or str(DEMO_CLIP)] * args.cameras
        samples, exit_code = _run_and_sample(Path(folder), cameras, args.minutes * 60)
    figures = figures_of(samples) | {"exit_code": float(exit_code)}
    broken = [name for name, limit in BUDGETS.items() if figures[name] > limit]
    for name, limit in BUDGETS.items():
        verdict = "BROKEN" if name in broken else "ok"
        print(f"{name:<32} {figures[name]:>10.2f}   budget {limit:>8g}   {verdict}")
    if args.json:
        report = {"figures": figures, "samples": [asdict(sample) for sample in samples]}
        json_file.write(report, args.json, indent=1)
    return EXIT_FAILURE if broken else EXIT_OK


def figures_of(samples: list[Sample]) -> dict[str, float]:
    """Return the figures that have budgets, by name. samples: in chronological order.

    Raises EdgeError when there are too few of them.
    """
    settled = [one for one in samples if one.at_s >= SETTLED * samples[-1].at_s]
    if len(settled) < 2:
        answers = f"{len(samples)} answers of the daemon"
        raise EdgeError(f"{answers}: too few to measure; give more --minutes")
    hours = np.array([one.at_s / 3600 for one in settled])
    slope = np.polyfit(hours, [one.rss_bytes / 1e6 for one in settled], 1)[0]
    first, last = settled[0], settled[-1]
    lines = last.log_lines - first.log_lines
    return {
        "rss_slope_mb_per_hour": float(slope),
        "descriptors_growth": float(last.descriptors - first.descriptors),
        "threads_growth": float(last.threads - first.threads),
        "log_lines_per_minute": lines / ((last.at_s - first.at_s) / 60),
        "spool_mb_per_day_broker_there": _mb_per_day(samples, is_away=False),
        "spool_mb_per_day_broker_away": _mb_per_day(samples, is_away=True),
        "events_lost": float(last.lost),
        "events": float(last.events),
        "rss_mb": last.rss_bytes / 1e6,
    }


def _mb_per_day(samples: list[Sample], *, is_away: bool) -> float:
    """Return megabytes written per day at one event per second, with or without the broker."""
    events = written_bytes = 0
    for before, after in itertools.pairwise(samples):
        if before.is_away is is_away is after.is_away:
            events += after.events - before.events
            written_bytes += after.written_bytes - before.written_bytes
    return written_bytes / max(events, 1) * DAY_S / 1e6


def _run_and_sample(folder: Path, sources: Sequence[str], run_s: float) -> tuple[list[Sample], int]:
    """Run daemon and broker; return the samples and the daemon's exit code.

    sources: one for each camera.
    """
    broker = Broker(folder)
    log = LogCounter()
    samples: list[Sample] = []
    with broker, _daemon(folder, broker.port, sources) as daemon:
        threading.Thread(target=log.read, args=(daemon.stderr,), daemon=True).start()
        started_s = time.monotonic()
        for _ in track(range(int(run_s / SAMPLE_S)), "soaking"):
            time.sleep(SAMPLE_S)
            at_s = time.monotonic() - started_s
            if run_s / 3 <= at_s < run_s * 2 / 3:
                broker.stop()
            else:
                broker.start()
            if daemon.poll() is not None:
                raise EdgeError(f"the daemon ended by itself, code {daemon.returncode}: {log.last}")
            sample = _sample(folder, daemon.pid, at_s, log.lines, is_away=not broker.is_running)
            samples += [sample] if sample else []
            if sample and sample.silent_cameras and at_s >= FIRST_FRAME_S:
                silent = f"{sample.silent_cameras} of {len(sources)} cameras"
                raise CameraError(f"{silent} gave no frame in {at_s:.0f} s; check --source")
        return samples, _stopped(daemon)


def _stopped(daemon: subprocess.Popen[str]) -> int:
    """Stop the daemon; return its exit code, as a shell gives it: 128 + n if signal n ended it."""
    daemon.terminate()
    try:
        code = daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        code = daemon.wait()
    return code if code >= 0 else 128 - code


def _sample(folder: Path, pid: int, at_s: float, lines: int, *, is_away: bool) -> Sample | None:
    """Return what is measured now, None if the daemon does not answer."""
    try:
        answer = status_socket.ask(folder / "state")
    except TimeoutError:
        return None
    stats = msgspec.json.decode(answer, type=Report).stats if answer else None
    if stats is None:
        return None
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Sample(
        at_s=at_s,
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names only
        threads=int(status["Threads"]),
        log_lines=lines,
        events=stats.events,
        written_bytes=stats.spool.written_bytes,
        lost=stats.spool.lost,
        silent_cameras=sum(not camera.frames for camera in stats.cameras.values()),
        is_away=is_away,
    )


@contextlib.contextmanager
def _daemon(folder: Path, port: int, sources: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    config = {
        "device": "soak",
        "state_dir": str(folder / "state"),
        "mqtt": {"host": "127.0.0.1", "port": port, "retry_max_s": 5},
        "cameras": {
            f"camera-{number}": {"source": source, "loop": True}
            for number, source in enumerate(sources)
        },
        "publish": {"stats_interval_s": SAMPLE_S / 2},
    }
    path = folder / "edge.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "edge", "run", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class LogCounter:
    """Counts the daemon's log lines and remembers the last one."""

    def __init__(self) -> None:
        self.lines = 0
        self.last = ""

    def read(self, stream: Iterable[str]) -> None:
        """Count until the stream ends; for a thread."""
        for line in stream:
            self.lines += 1
            self.last = line.rstrip()


class Broker:
    """A mosquitto on the loopback interface that can be stopped and restarted; a context manager.

    settings: additional lines of its config file. Raises EdgeError if mosquitto is not installed.
    """

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise EdgeError("mosquitto is missing; run: apt install mosquitto")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(f"{user}listener {self.port} 127.0.0.1\nallow_anonymous true\n{settings}")
        self._command = [program, "-c", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def stop(self) -> None:
        """Stop it and wait for its end, unless it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(STOP_S)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()
