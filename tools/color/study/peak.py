"""Measure one .tflite file in a process of its own: `python -m tools.color.study.peak [FILE]`.

Prints the median time of an invoke and the process's peak memory as JSON; without a file, those of
a process that only loads the runtime.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from edge.interpreter import installed_runtime, load_engine

WARM_UP = 5  # runs before timing, which allocate memory and fill caches
RUNS = 30  # of which the median is the time


def main(words: list[str]) -> None:
    """Print the figures of the named file, or of none."""
    installed_runtime()  # loaded without a file, too: its memory is not the model's
    times = [0.0]
    if words:
        path = Path(words[0])
        engine = load_engine(path.read_bytes(), path)
        times = [_invoke_ms(engine) for _ in range(WARM_UP + RUNS)][WARM_UP:]
    print(json.dumps({"median_ms": statistics.median(times), "peak_mb": _peak_kb() / 1024}))


def _peak_kb() -> int:
    """Return this process's peak memory; getrusage would count the parent process's as well."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _invoke_ms(engine: object) -> float:
    start = time.perf_counter()
    engine.invoke()  # type: ignore[attr-defined]
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main(sys.argv[1:])
