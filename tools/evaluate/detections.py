"""Runs a detector with one runtime and one family of kernels on a set and the golden pictures.

Needs only the board's dependencies, so that it also runs in an environment with tflite-runtime:
`python -m tools.evaluate.detections FOLDER --annotations FILE --images DIR --output FILE`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge import manifest
from edge.detector import Detector
from edge.inference import inputs
from edge.interpreter import Interpreter
from edge.values import Image
from tools import dataset
from tools.benchmark import timing
from tools.benchmark.frame_path import DEMO_CLIP
from tools.dataset import Dataset
from tools.evaluate.accuracy import MIN_SCORE, collect

CLIP_STEP = 50  # every 50th frame of the demo clip is used


@dataclass(frozen=True)
class KernelResult:
    """Detections and times with one family of kernels.

    kernels: name of runtime and kernels. results: COCO result dicts of the set. golden: detections
    by golden picture: label, score and box (x, y, width, height in pixels). invoke_ms: p50, p95,
    p99; empty if not timed.
    """

    kernels: str
    results: list[dict[str, Any]]
    golden: dict[str, list[dict[str, Any]]]
    invoke_ms: dict[str, float]


def measure_kernels(folder: Path, data: Dataset, *, xnnpack: bool, runs: int) -> KernelResult:
    """Run a model folder with one family of kernels. runs: timed invokes, 0 for none.

    Raises ModelError when the runtime refuses the model, InputError for an unreadable picture.
    """
    loaded = Interpreter.load(folder, xnnpack=xnnpack)
    detector = Detector(loaded, min_score=MIN_SCORE)
    golden = {
        name: [
            {"label": one.label, "score": one.score, "box_px": list(one.box_px)}
            for one in detector.detect(bgr)
        ]
        for name, bgr in _golden_pictures(folder)
    }
    times = timing.measure({"": detector.invoke}, runs)[""] if runs else {}
    results = collect(detector.detect, data)
    kernels, _, _threads = loaded.runtime.rpartition(", ")
    return KernelResult(kernels, results, golden, times)


def _golden_pictures(folder: Path) -> Iterator[tuple[str, Image]]:
    """Yield the folder's golden picture and some frames of the demo clip."""
    golden = manifest.read(folder).golden
    if golden is not None:
        yield golden.file, dataset.load_file(folder / golden.file)
    for number, picture in enumerate(inputs.pictures(DEMO_CLIP)):
        if number % CLIP_STEP == 0:
            yield f"{DEMO_CLIP.name} frame {number}", picture.bgr


def main(arguments: list[str]) -> int:
    """Write a `KernelResult` as JSON; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=0)
    args = parser.parse_args(arguments)
    data = dataset.read(args.annotations, args.images)
    found = measure_kernels(args.folder, data, xnnpack=True, runs=args.runs)
    args.output.write_text(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
