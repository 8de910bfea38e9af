"""Averages the float weights of detectors: `edge-tools detect average`.

Networks fine-tuned from the same weights make different errors; the average of their weights is one
network, as fast as each of them, that generalizes better. Including the initial weights preserves
what fine-tuning on a few thousand pictures forgets.
Source: Wortsman et al. 2022, "Model soups" (averaging runs), "Robust fine-tuning" (including the
initial weights).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from edge.errors import InputError
from tools.architectures import yolox

EXAMPLES = """\
example (7 parts of the trained weights, 3 parts of the initial ones):
  edge-tools detect average runs/detect/best.pt:0.7 runs/detect/rectified.pt:0.3 \\
    --output runs/mean.pt
  edge-tools train detect-int8 --weights runs/mean.pt …
"""


class Part(NamedTuple):
    """A file of weights and its share in the average, before normalization."""

    path: Path
    weight: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "parts",
        type=_part,
        nargs="+",
        metavar="FILE[:WEIGHT]",
        help="best.pt or rectified.pt of `train detect`, and its weight; default: 1",
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write")


def run(args: argparse.Namespace) -> int:
    """Write the average, which every command accepts in place of a best.pt."""
    if len(args.parts) < 2:
        raise InputError("one network has no mean; name two or more")
    net, origin = averaged(args.parts)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    yolox.save(net, args.output, origin)
    print(f"{args.output}: {origin}")
    return 0


def averaged(parts: Sequence[Part]) -> tuple[yolox.YoloxNano, str]:
    """Return the weighted mean of float networks, and a human-readable origin.

    Raises InputError when a file cannot be read or its labels or stem differ from the first one's.
    """
    nets = [yolox.load(part.path) for part in parts]
    mean = nets[0]
    kind = (mean.labels, mean.backbone.stem.is_rectified)
    for part, net in zip(parts, nets, strict=True):
        if (net.labels, net.backbone.stem.is_rectified) != kind:
            raise InputError(
                f"{part.path}: other labels or another stem than {parts[0].path}; leave it out"
            )
    total = sum(part.weight for part in parts)
    shares = [part.weight / total for part in parts]
    states = [net.state_dict() for net in nets]
    mean.load_state_dict(
        {
            name: torch.stack(
                [share * state[name] for share, state in zip(shares, states, strict=True)]
            ).sum(0)
            for name in states[0]
        }
    )
    # Of each network's history only the beginning, to keep the text short.
    begun = dict.fromkeys(yolox.origin(part.path).split(";")[0] for part in parts)
    weights_text = " + ".join(f"{share:.2g}" for share in shares)
    return mean, f"{' and '.join(begun)}; the mean of {len(parts)} trainings, {weights_text}"


def _part(text: str) -> Part:
    name, separator, number = text.rpartition(":")
    if not separator:
        return Part(Path(text), 1.0)
    try:
        weight = float(number)
    except ValueError:
        return Part(Path(text), 1.0)  # the colon belongs to the file name
    if not 0 < weight < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a weight is above 0")
    return Part(Path(name), weight)
