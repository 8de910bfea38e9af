"""Make the daemon's table of color names: `edge-tools color names --output FILE.npy`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS
from edge.swatch import STEPS, TABLE_FILE
from tools.color.pixels import cielab
from tools.color.pixels.naming import name_of

EXAMPLES = """\
example:
  edge-tools color names --output edge/assets/color-names.npy
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--output", type=Path, default=TABLE_FILE, help="default: the shipped one")


def run(args: argparse.Namespace) -> int:
    """Write the table to the given file, whose name is not changed."""
    with args.output.open("wb") as file:
        np.save(file, table())
    print(f"{args.output}: {STEPS}^3 colors, {len(TERMS)} terms")
    return 0


def table() -> NDArray[np.uint8]:
    """Return the index in TERMS of each color, uint8 (32, 32, 32), by red, green and blue.

    A cell has the name of its middle by `naming.name_of`.
    """
    steps = (np.arange(STEPS, dtype=np.float32) + 0.5) / STEPS
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), 3).reshape(-1, 3)
    named = [TERMS.index(name_of(color)) for color in cielab.from_rgb(rgb)]
    return np.array(named, np.uint8).reshape(STEPS, STEPS, STEPS)
