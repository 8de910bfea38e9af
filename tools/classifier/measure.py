"""Measures one model in a separate process: `python -m tools.classifier.measure JOB RESULT`.

Pictures are classified one at a time; only the classification is timed. Pixels are read, not
memory-mapped, so that they do not count as the model's memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge import durable
from edge.errors import NO_ROOM
from tools.classifier.data import Pixels, network_input

Classify = Callable[[Pixels], NDArray[np.float32]]
WARM_UPS = 3
EXIT_NO_ROOM = 75  # EX_TEMPFAIL of sysexits.h


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure: a model file, and a .npy file of pixels, uint8 (n, side, side, 3)."""

    model: str
    pixels: str
    side_px: int
    count: int
    threads: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a process; the probabilities, float32 (n, classes), are in a .npy file beside it.

    baseline_bytes: memory after importing the runtime; peak_bytes: maximum.
    """

    runtime: str
    load_ms: float
    times_ms: list[float]
    baseline_bytes: int
    peak_bytes: int


def main(job_file: str, result_file: str) -> None:
    """Measure the job and write the result."""
    job = msgspec.json.decode(Path(job_file).read_bytes(), type=Job)
    path = Path(job.model)
    opener = _keras if path.suffix == ".keras" else _tflite
    runtime, open_model = opener(job)
    baseline = _memory_bytes("VmRSS")
    began = time.perf_counter()
    classify = open_model(path)
    load_ms = (time.perf_counter() - began) * 1e3
    answers, times = _measure(classify, job)
    np.save(Path(result_file).with_suffix(".npy"), answers)
    found = Measured(
        runtime=f"{runtime}, {job.threads} thread(s)",
        load_ms=load_ms,
        times_ms=times,
        baseline_bytes=baseline,
        peak_bytes=_memory_bytes("VmHWM"),
    )
    # Last and atomically, because it marks the result as complete.
    durable.replace(Path(result_file), msgspec.json.encode(found))


def _measure(classify: Classify, job: Job) -> tuple[NDArray[np.float32], list[float]]:
    """Return the probabilities of all pictures (n, classes) and each one's time in ms."""
    shape = (job.side_px, job.side_px, 3)
    answers, times = [], []
    with Path(job.pixels).open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        for row in range(job.count):
            rgb = np.frombuffer(file.read(int(np.prod(shape))), np.uint8).reshape(shape)
            if row == 0:
                for _ in range(WARM_UPS):
                    classify(rgb)
            began = time.perf_counter()
            answers.append(classify(rgb))
            times.append((time.perf_counter() - began) * 1e3)
    return np.stack(answers), times


def _tflite(job: Job) -> tuple[str, Callable[[Path], Classify]]:
    from edge.interpreter import installed_runtime
    from tools.classifier.tflite import TFLiteClassifier

    name, _ = installed_runtime()
    return name, lambda path: TFLiteClassifier(path, threads=job.threads).probabilities


def _keras(job: Job) -> tuple[str, Callable[[Path], Classify]]:
    """Return Keras run as a compiled graph: `predict` is slow for one picture."""
    from tools.classifier import network, runtime

    keras, tensorflow = runtime.load()
    runtime.use_threads(job.threads)

    def open_model(path: Path) -> Classify:
        net = network.load(path)
        compiled = tensorflow.function(lambda image: net(image, training=False))
        return lambda rgb: np.asarray(compiled(network_input(rgb[None])))[0]

    return f"keras {keras.__version__}, tensorflow {tensorflow.__version__}", open_model


def _memory_bytes(field: str) -> int:
    """Return a memory field of /proc/self/status in bytes; 0 if there is no such file.

    `getrusage` cannot be used: its maximum is inherited from the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as failure:
        if failure.errno not in NO_ROOM:
            raise
        sys.exit(EXIT_NO_ROOM)
