"""Times the invokes alone: every model with every thread count, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.interpreter import Interpreter
from tools.benchmark import timing
from tools.benchmark.quantiles import cells

SEED = 1


def measure(folders: Sequence[Path], threads: Sequence[int], runs: int) -> list[dict[str, Any]]:
    """Return one row per model and thread count: p50, p95, p99 of invoke in milliseconds."""
    loaded = {
        (folder, count): Interpreter.load(folder, threads=count)
        for folder in folders
        for count in threads
    }
    for interpreter in loaded.values():
        fill(interpreter)
    times = timing.measure({key: one.invoke for key, one in loaded.items()}, runs)
    return [
        {
            "model": folder.name,
            "threads": count,
            "runtime": interpreter.runtime,
            "parameters": interpreter.manifest.parameters,
            **times[folder, count],
        }
        for (folder, count), interpreter in loaded.items()
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
