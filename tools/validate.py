"""`edge-tools validate MODEL…`: proves that it is integer-only and gives what its manifest says.

Needs the board's own dependencies only. The exit code says pass (0) or fail (78): made for CI.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge import certificate, manifest, model_store
from edge.errors import EXIT_CONFIG, EXIT_OK, ModelError
from tools import golden

EXAMPLES = """examples:
  edge-tools validate yolox-nano-320 color-64     # installed models
  edge-tools validate some/model.tflite --list    # any file: the certificate alone"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name, folder or .tflite file")
    parser.add_argument("--models-dir", metavar="DIR", help="look for models here first")
    parser.add_argument("--list", action="store_true", help="list every tensor and operator")


def run(args: argparse.Namespace) -> int:
    """Print a verdict per model and return 78 when one fails."""
    failed = 0
    for model in args.models:
        if model.endswith(".tflite"):
            faults = _check_file(Path(model), is_listed=args.list)
        else:
            folder = model_store.find(model, args.models_dir)
            path = folder / manifest.read(folder).file
            faults = _check_file(path, is_listed=args.list) or _check_golden(folder)
        for fault in faults:
            print(f"  {fault}")
        print(f"{model}: {'FAIL' if faults else 'pass'}")
        failed += bool(faults)
    return EXIT_CONFIG if failed else EXIT_OK


def _check_file(path: Path, *, is_listed: bool) -> list[str]:
    try:
        graph = certificate.read_graph(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}; name a complete .tflite file") from None
    summary = certificate.summarize(graph)
    print(f"{path}: tensors {summary.tensors}; operators {summary.operators}")
    if is_listed:
        for number, name in enumerate(graph.operators):
            print(f"  operator {number:>4} {name}")
        for tensor in graph.tensors:
            print(f"  tensor {tensor.dtype:<8} {tensor.name}")
    return certificate.violations(graph)


def _check_golden(folder: Path) -> list[str]:
    return [
        f"{kernels}: {difference}"
        for kernels, xnnpack in (("xnnpack", True), ("builtin kernels", False))
        for difference in golden.differences(folder, xnnpack=xnnpack)
    ]
