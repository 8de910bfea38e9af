"""`edge-tools benchmark-infer`: pictures per second of `edge infer FOLDER`, against alternatives.

`loaded once` is edge's detector in a minimal script; `reload` is a naive script that loads the
model for each picture; `ONNX Runtime` is the published network in float32 at the input size that
the model takes for these frames, with the same letterbox, threshold and suppression
(`tools.yolox_onnx`). Each alternative is a new process, timed from start to end, so that imports
and model loading count; reported is the median of `--runs`, with the alternatives in turns. The
quantiles are of single pictures over all runs, from opening the file to boxes in the frame, without
start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import manifest, model_store, picture_file
from edge.capture import read_image
from edge.config import CameraConfig, DetectorConfig
from edge.detector.input_size import size_for
from edge.errors import EXIT_OK, InputError, ModelError
from tools import child, json_file
from tools.arguments import count, option
from tools.benchmark import machine
from tools.benchmark.frame_path import DEMO_CLIP, images
from tools.benchmark.quantiles import cells, quantiles

EXAMPLES = """\
examples:
  edge-tools benchmark-infer
  edge-tools benchmark-infer --onnx yolox_nano.onnx --source vtest.avi --json infer.json
"""
TIMEOUT_S = 1200
THREADS = 4  # of a board's processor
LOADED = """
import json, sys, time, cv2
from pathlib import Path
from edge import model_store
from edge.detector import Detector
from edge.interpreter import Interpreter
model, times = None, []
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.perf_counter()
    if model is None or sys.argv[3] == "reload":
        folder = model_store.find(sys.argv[2])
        model = Detector(Interpreter.load(folder), min_score=0.25)
    found = model.detect(cv2.imread(str(path)))
    times.append(1000 * (time.perf_counter() - started))
print(json.dumps(times))
"""
ONNX = """
import json, sys, time, cv2
from pathlib import Path
from edge import manifest, model_store
from tools.yolox_onnx import YoloxOnnx
folder = model_store.find(sys.argv[2])
model, times = YoloxOnnx(Path(sys.argv[3]), manifest.read(folder), min_score=0.25), []
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.perf_counter()
    found = model.detect(cv2.imread(str(path)))
    times.append(1000 * (time.perf_counter() - started))
print(json.dumps(times))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--model", default=DetectorConfig().model, metavar="NAME", help="default: %(default)s"
    )
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="published yolox_nano.onnx")
    parser.add_argument("--source", default=str(DEMO_CLIP), metavar="FILE", help="default: demo")
    parser.add_argument(
        "--counts",
        type=count,
        nargs="+",
        default=[5, 500],
        metavar="N",
        help="pictures; default: 5 500",
    )
    option(parser, "--runs", count, 3, "of each alternative", metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save the numbers")


def run(args: argparse.Namespace) -> int:
    """Print one row per alternative and number of pictures."""
    if args.onnx and not args.onnx.is_file():
        raise InputError(f"--onnx {args.onnx}: no such file")
    facts = machine.read()
    machine.show(facts)
    print(f"\n{'one process':<24}{'pictures':>10}{'per s':>9}{'seconds':>9}", end="")
    print(f"{'ms p50':>10}{'p95':>10}{'p99':>10}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        network: Path | None = None
        for number, count in enumerate(args.counts):
            pictures = Path(scratch) / str(number)
            _write_frames(args.source, pictures, count)
            if args.onnx and network is None:
                network = _resized(args, Path(scratch), pictures)
            ways = _ways(args.model, network, pictures)
            runs = [[_time(*way) for way in ways] for _ in range(args.runs)]
            for (way, _), times in zip(ways, zip(*runs, strict=True), strict=True):
                rows.append({"way": way, "pictures": count, **_row(times, count)})
                _show(rows[-1])
    if args.json:
        json_file.write({"machine": facts, "rows": rows}, args.json, indent=1)
    return EXIT_OK


def _resized(args: argparse.Namespace, scratch: Path, pictures: Path) -> Path:
    """Write the ONNX network with the input size that the model takes for these frames.

    Raises ModelError when the two networks cannot be compared.
    """
    from tools.yolox_onnx import write_at_size

    model = manifest.read(model_store.find(args.model))
    if model.decoder.name != "yolox":
        raise ModelError(f"--onnx: {model.name} is not a YOLOX model; name one with --model")
    network = scratch / "network.onnx"
    height, width = read_image(min(pictures.iterdir())).shape[:2]
    write_at_size(args.onnx, size_for(model, (width, height)), network)
    return network


def _ways(model: str, network: Path | None, pictures: Path) -> list[tuple[str, list[str]]]:
    python, folder = sys.executable, str(pictures)
    words = [folder, "--model", model, "--no-color", "--output", os.devnull]
    ours = [python, "-m", "edge", "infer", *words]
    ways = [
        ("edge infer", ours),
        (f"edge infer --threads {THREADS}", [*ours, "--threads", str(THREADS)]),
        ("loaded once", [python, "-c", LOADED, folder, model, "keep"]),
        ("reload per picture", [python, "-c", LOADED, folder, model, "reload"]),
    ]
    if network:
        onnx = [python, "-c", ONNX, folder, model, str(network)]
        ways.append(("ONNX Runtime, float", onnx))
    return ways


def _write_frames(source: str, folder: Path, count: int) -> None:
    """Write `count` frames of a clip as JPEG files, restarting the clip when it ends."""
    camera = CameraConfig(source=source, realtime=False)
    for number, bgr in enumerate(images(camera, count)):
        picture_file.write(folder / f"{number:05}.jpg", bgr)


def _time(way: str, command: list[str]) -> tuple[float, list[float]]:
    """Return the process's time in seconds, and ms of each picture if the process prints them."""
    started_s = time.perf_counter()
    printed = child.output_of(command, way, timeout_s=TIMEOUT_S)
    seconds = time.perf_counter() - started_s
    return seconds, json.loads(printed) if printed.strip() else []


def _row(runs: Sequence[tuple[float, list[float]]], count: int) -> dict[str, Any]:
    """Return the median run's seconds, and quantiles over all pictures if there are such times."""
    seconds = statistics.median(run[0] for run in runs)
    times_ms = [time_ms for run in runs for time_ms in run[1]]
    row: dict[str, Any] = {"seconds": round(seconds, 3), "per_s": round(count / seconds, 2)}
    return row | ({"picture_ms": quantiles(times_ms)} if times_ms else {})


def _show(row: dict[str, Any]) -> None:
    inside = cells(row["picture_ms"]) if "picture_ms" in row else ""
    print(
        f"{row['way']:<24}{row['pictures']:>10}{row['per_s']:>9.2f}{row['seconds']:>9.2f}{inside}",
        flush=True,
    )
