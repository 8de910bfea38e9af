"""Times the invokes alone: every model with every thread count, in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.interpreter import Interpreter
from tools.benchmark.quantiles import cells, quantiles

WARM_UP = 5
SEED = 1


def measure(folders: Sequence[Path], threads: Sequence[int], runs: int) -> list[dict[str, Any]]:
    """Return one row per model and thread count: p50, p95, p99 of invoke in milliseconds."""
    loaded = [
        (folder.name, count, Interpreter.load(folder, threads=count))
        for folder in folders
        for count in threads
    ]
    for _, _, interpreter in loaded:
        fill(interpreter)
        for _ in range(WARM_UP):
            interpreter.invoke()
    times: list[list[float]] = [[] for _ in loaded]
    for _ in range(runs):
        for own, (_, _, interpreter) in zip(times, loaded, strict=True):
            started_s = time.perf_counter()
            interpreter.invoke()
            own.append(1000 * (time.perf_counter() - started_s))
    return [
        {
            "model": name,
            "threads": count,
            "runtime": interpreter.runtime,
            "parameters": interpreter.manifest.parameters,
            **quantiles(own),
        }
        for own, (name, count, interpreter) in zip(times, loaded, strict=True)
    ]


def fill(interpreter: Interpreter) -> None:
    """Fill the input tensor with noise; int8 times do not depend on the content."""
    view = interpreter.input_view()
    noise = np.random.default_rng(SEED).integers(0, 256, view.shape, dtype=np.uint8)
    view.view(np.uint8)[...] = noise


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"\n{'invoke, ms':<24}{'threads':>8}{'parameters':>12}{'p50':>10}{'p95':>10}{'p99':>10}")
    for row in rows:
        print(f"{row['model']:<24}{row['threads']:>8}{row['parameters']:>12,}{cells(row)}")
