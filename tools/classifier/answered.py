"""Measures one model in a separate process and saves its predictions until the run is complete.

A run that was stopped or failed measures only the missing models when started again; after a
completed run everything is measured again.
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
from tools import child
from tools.classifier.data import Pictures
from tools.classifier.description import Description
from tools.classifier.measure import EXIT_NO_ROOM, Job, Measured

UNFINISHED = ".unfinished"  # folder in a run's output


@dataclass(frozen=True)
class Answered:
    """A model with its measurements. answers: predicted probabilities, float32 (n, classes)."""

    folder: Path
    described: Description
    measured: Measured
    answers: NDArray[np.float32]


def measure(
    folder: Path, described: Description, pictures: Pictures, threads: int, output: Path
) -> Answered:
    """Measure a model in a separate process; the result is saved below `output`.

    Raises ModelError when that process fails, OSError when the disk is full.
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
    """Remove the saved results after a completed run."""
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def _key(path: Path, pictures: Pictures, threads: int) -> str:
    """Return a result's file name, unique to the model, the pictures and the threads."""
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
        reason = child.reason_of(done).removeprefix("edge.errors.ModelError: ")
        raise ModelError(
            f"model file {job.model}: {reason.removeprefix(f'model file {job.model}: ')}"
        )
