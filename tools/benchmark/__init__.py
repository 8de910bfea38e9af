"""`python -m tools benchmark`: times models and the whole frame path, here or on a board.

Needs only the board's dependencies. Reports quantiles, not means. Everything that is compared runs
in turns in one process, so that other load affects all of it equally; on a shared machine, compare
the ratios rather than absolute times.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edge import manifest, model_store
from edge.errors import EXIT_OK
from tools import json_file
from tools.arguments import count, option
from tools.benchmark import frame_path, invokes, machine, start_up

EXAMPLES = """examples:
  python -m tools benchmark                         # all installed models, 1 and 2 threads
  python -m tools benchmark --models yolox-nano-352 --threads 1 4 --json pi4.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="default: all installed, the daemon's default ones in frame path and start-up; "
        "of those named, the first detector and the first color model go there",
    )
    parser.add_argument("--models-dir", metavar="DIR", help="look for models here first")
    parser.add_argument(
        "--threads", nargs="+", type=count, default=[1, 2], metavar="N", help="default: 1 2"
    )
    option(parser, "--runs", count, 100, "timed invokes per row", metavar="N")
    parser.add_argument("--source", metavar="FILE", help="clip for the frame path; default: demo")
    option(parser, "--frames", count, 200, "frames of the clip", metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save the numbers")


def run(args: argparse.Namespace) -> int:
    """Print the tables, and save them as JSON when asked."""
    names = args.models or [folder.name for folder in model_store.installed(args.models_dir)]
    folders = [model_store.find(name, args.models_dir) for name in names]
    report: dict[str, Any] = {"machine": machine.read()}
    machine.show(report["machine"])
    report["invoke"] = invokes.measure(folders, args.threads, args.runs)
    invokes.show(report["invoke"])
    chosen = _by_task(folders) if args.models else {}
    config = frame_path.config_with(chosen, args.source)
    report["frame_path"] = frame_path.measure(config, args.frames, args.models_dir)
    frame_path.show(report["frame_path"])
    report["start_up"] = start_up.measure(chosen, args.models_dir)
    start_up.show(report["start_up"])
    if args.json:
        json_file.write(report, args.json)
    return EXIT_OK


def _by_task(folders: list[Path]) -> dict[str, str]:
    """Return the first model of each task; iterates in reverse, as later dict entries win."""
    return {manifest.read(folder).task: str(folder) for folder in reversed(folders)}
