"""The arguments that `edge infer` and `edge-tools infer` share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from edge import model_store
from edge.config import ColorConfig, DetectorConfig
from edge.errors import UsageError
from edge.inference.tasks import ColorTask, DetectTask, Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the inputs, and the options that decide about an entry."""
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="INPUT", help="image, video or folder of such"
    )
    parser.add_argument(
        "--recursive", action="store_true", help="read the folders in folders, too, but not links"
    )
    parser.add_argument(
        "--min-score", type=_score, default=0.25, metavar="S", help="default: %(default)s"
    )
    parser.add_argument(
        "--task", choices=("detect", "color"), default="detect", help="default: %(default)s"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="detector, or color model with --task color; a name of `edge models` or a folder; "
        f"default: {DetectorConfig().model}, {ColorConfig().model}",
    )
    parser.add_argument(
        "--objects",
        type=Path,
        metavar="FILE.json",
        help="with --task color: what images show, {file name or path: label}; others have none",
    )
    parser.add_argument(
        "--color-model",
        default=ColorConfig().model,
        metavar="NAME",
        help="names detections' colors; default: %(default)s",
    )
    parser.add_argument("--no-color", action="store_true", help="do not name detections' colors")
    parser.add_argument("--models-dir", metavar="DIR", help="look for models here first")


def chosen(args: argparse.Namespace) -> Task:
    """Return the task that the arguments describe.

    Raises UsageError for options that contradict each other, ModelError for an unknown model.
    """
    if args.task == "color":
        return ColorTask(model_store.find(args.model or args.color_model, args.models_dir))
    if args.objects:
        raise UsageError("--objects needs --task color")
    detector = model_store.find(args.model or DetectorConfig().model, args.models_dir)
    color = None if args.no_color else model_store.find(args.color_model, args.models_dir)
    return DetectTask(detector, color, args.min_score)


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a score; give one above 0, at most 1")
    return value
