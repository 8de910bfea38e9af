"""One model's answers and times from a process of its own, kept until the whole run is done.

A run that is stopped, or whose next model cannot be read, measures only what is missing when it is
started again; one that ended measures everything afresh.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from tools.classifier.data import Pictures
from tools.classifier.description import Description
from tools.classifier.measure import EXIT_NO_ROOM, Job, Measured

UNFINISHED = ".unfinished"  # folder in a run's output


@dataclass(frozen=True)
class Answered:
    """A model with its answers, float32 (n, classes)."""

    folder: Path
    described: Description
    measured: Measured
    answers: NDArray[np.float32]


def measure(
    folder: Path, described: Description, pictures: Pictures, threads: int, output: Path
) -> Answered:
    """Return what a process of its own found about a model; kept below `output`.

    Raises ModelError when that process fails, OSError when there is no room for what it found.
    """
    path = folder / described.file
    if not path.is_file():
        raise ModelError(f"classifier {folder}: no {described.file}; convert the model again")
    job = Job(
        model=str(path),
        pixels=str(pictures.file),
        side_px=described.side_px,
        count=len(pictures.labels),
        threads=threads,
    )
    result = output / UNFINISHED / f"{_key(path, pictures, threads)}.json"
    if result.is_file():
        print(f"{folder}: measured before the run stopped", file=sys.stderr)
    else:
        result.parent.mkdir(parents=True, exist_ok=True)
        _run(job, result)
    measured = msgspec.json.decode(result.read_bytes(), type=Measured)
    return Answered(folder, described, measured, np.load(result.with_suffix(".npy")))


def forget(output: Path) -> None:
    """Remove what was kept: the run is done."""
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def _key(path: Path, pictures: Pictures, threads: int) -> str:
    """Return what names a result: another model, other pictures or threads give another."""
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    digest.update(os.fsencode(f"{path.resolve()} {pictures.sha256} {threads}"))
    return digest.hexdigest()


def _run(job: Job, result: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        job_file = Path(scratch, "job.json")
        job_file.write_bytes(msgspec.json.encode(job))
        command = [sys.executable, "-m", "tools.classifier.measure", str(job_file), str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == EXIT_NO_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(result.parent))
    if done.returncode:
        said = done.stderr.strip().splitlines() or [_ending(done.returncode)]
        reason = said[-1].removeprefix("edge.errors.ModelError: ")
        raise ModelError(
            f"model file {job.model}: {reason.removeprefix(f'model file {job.model}: ')}"
        )


def _ending(code: int) -> str:
    killed = code < 0  # by a signal of that number
    return f"its process was killed (signal {-code})" if killed else "it ended without a word"
