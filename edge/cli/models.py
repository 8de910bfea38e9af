"""`edge models`: what is installed, hashes, certificate."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge import model_store
from edge.cli.progress import one_line
from edge.errors import EXIT_CONFIG, EXIT_OK, ModelError
from edge.interpreter import Interpreter

HELP = "List the installed models; load each one to check hash, tensors and certificate."
EXAMPLES = "examples:\n  edge models\n  edge models --models-dir /var/lib/edge/models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--models-dir", metavar="DIR", help="look here first")


def run(args: argparse.Namespace) -> int:
    """Print a line per model and return 78 when one of them does not hold."""
    folders = model_store.installed(args.models_dir)
    if not folders:
        raise ModelError("no model is installed; give --models-dir or install edge-camera again")
    broken = 0
    print(f"{'name':<22} {'version':<9} {'task':<7} {'input':<9} {'sha256':<14} certificate")
    for folder in folders:
        try:
            print(_line(folder))
        except ModelError as error:
            broken += 1
            print(f"{folder.name:<22} BROKEN: {one_line(error)}")
    return EXIT_CONFIG if broken else EXIT_OK


def _line(folder: Path) -> str:
    model = Interpreter.load(folder).manifest
    _, height, width, _ = model.input.shape
    tensors = ", ".join(f"{count} {dtype}" for dtype, count in model.certificate.tensors.items())
    verdict = "integer-only" if model.certificate.integer_only else "NOT integer-only, allowed"
    return (
        f"{model.name:<22} {model.version:<9} {model.task:<7} {f'{width}x{height}':<9} "
        f"{model.sha256[:12]:<14} {verdict} ({tensors})"
    )
