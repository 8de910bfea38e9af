"""`edge-tools color study`: seven networks trained alike on the same crops, one table.

Each is trained for the same few epochs on the same crops (those of a tenth of the pictures are its
validation part); the test part is the data set's own validation split. The folder holds a row for
each network; a network with a row of the same crops is not measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from edge import durable
from edge.errors import InputError
from tools.architectures import efficientnet_lite
from tools.arguments import count, option
from tools.color.data import arrays, dataset
from tools.color.data.dataset import ColorItem
from tools.color.study.measure import Parts, Row, crops, measure
from tools.color.study.networks import STUDY, Ours, Studied, Vgg16
from tools.console import plain_console

EXAMPLES = """\
examples (started again, measures only what is missing; VGG16's weights are torchvision's):
  edge-tools color study --data ../shared/data --output runs/study
  edge-tools color study --data ../shared/data --output runs/study --vgg16 vgg16-397923af.pth
  edge-tools color study --data ../shared/data --output runs/quick --epochs 1 --limit 600 \\
      --only single "ours, fast"
"""
VALIDATION_SHARE = 0.1
UNTRAINED = "needs --vgg16 FILE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--data", type=Path, required=True, help="folder with color/, scene_color/")
    option(parser, "--output", Path, Path("runs/study"), "folder of results")
    option(parser, "--epochs", count, 5, "of each network")
    option(parser, "--limit", count, 4000, "training crops")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(STUDY),
        default=list(STUDY),
        metavar="NETWORK",
        help="only these networks: " + ", ".join(f'"{name}"' for name in STUDY),
    )
    parser.add_argument("--vgg16", type=Path, metavar="FILE", help="torchvision's VGG16 weights")
    option(parser, "--threads", count, 1, "CPU threads of PyTorch")


def run(args: argparse.Namespace) -> int:
    """Measure what is missing and print the table."""
    torch.set_num_threads(args.threads)
    parts = _split(args.data, args.limit)
    rows = {name: _row(name, args, parts) for name in args.only}
    plain_console(columns=150).print(_table(rows, args))
    return 0


def _split(data: Path, limit: int) -> tuple[list[ColorItem], ...]:
    """Return training, validation and test items, the same in each run."""
    items = dataset.training_items(data)
    order = np.random.default_rng(5).permutation(len(items))[:limit]
    kept, held = dataset.by_picture([items[row] for row in sorted(order)], VALIDATION_SHARE)
    if not kept or not held:
        fix = "raise --limit" if len(order) < len(items) else "label more"
        raise InputError(f"{data}: {len(order)} training crops are too few; {fix}")
    return kept, held, dataset.validation_items(data)


def _row(name: str, args: argparse.Namespace, parts: tuple[list[ColorItem], ...]) -> Row:
    """Return a network's row from the folder, measured now if it is not there."""
    studied = STUDY[name]
    is_trained = not studied.is_pretrained or args.vgg16 is not None
    epochs = args.epochs if is_trained else 0
    folder = args.output / "".join(char if char.isalnum() else "-" for char in name)
    budget = {"epochs": epochs, "limit": args.limit, "crops": _digest(parts)}
    stored = folder / "row.json"
    if stored.exists() and (known := json.loads(stored.read_text()))["budget"] == budget:
        return Row(**known["row"])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    sized = parts if is_trained else tuple(part[:8] for part in parts)
    inputs = Parts(*(crops(part, studied, args.output / "cache") for part in sized))
    row = measure(studied, _network(studied, args.vgg16), inputs, epochs, folder)
    text = json.dumps({"budget": budget, "row": asdict(row)}, indent=2)
    durable.replace(stored, f"{text}\n".encode())
    return row


def _digest(parts: tuple[list[ColorItem], ...]) -> str:
    """Return a hash that differs for other crops, labels or pictures."""
    text = " ".join(f"{part} {arrays.fingerprint(part)}" for part in parts)
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _network(studied: Studied, vgg16: Path | None) -> torch.nn.Module:
    """Return the network before training, with ImageNet weights where it starts from them."""
    network = studied.make()
    if isinstance(network, Vgg16) and vgg16 is not None:
        network.load_imagenet(vgg16)
    if isinstance(network, Ours):
        trunk = network.network.trunk
        efficientnet_lite.load_pretrained(trunk, efficientnet_lite.pretrained_file())
    return network


def _table(rows: dict[str, Row], args: argparse.Namespace) -> Table:
    heads = (
        "network", "weights (study)", "int8 MB", "val loss", "val", "test loss", "test",
        "float ms (PyTorch)", "int8 ms", "peak MB",
    )  # fmt: skip
    table = Table(*heads, title=f"{args.epochs} epochs of at most {args.limit} crops")
    for name, row in rows.items():
        table.add_row(name, *_cells(row, STUDY[name].weights_m))
    return table


def _cells(row: Row, study_weights_m: float | None) -> tuple[str, ...]:
    known = "" if study_weights_m is None else f" ({study_weights_m:g} M)"
    figures = (row.validation_loss, row.validation_accuracy, row.test_loss, row.test_accuracy)
    trained = [UNTRAINED if one is None else f"{one:.3f}" for one in figures]
    return (
        f"{row.weights / 1e6:.2f} M{known}",
        f"{row.bytes_int8 / 1e6:.2f}",
        *trained,
        f"{row.float_ms:.2f}",
        f"{row.int8_ms:.2f}",
        f"{row.peak_mb:.0f}",
    )
