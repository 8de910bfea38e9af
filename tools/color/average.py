"""The mean of a color network's weights after several epochs: `edge-tools color average`.

Late in a run the networks of different epochs make different mistakes. The network with the mean
of their weights generalizes better than each of them, at the size and speed of one.
Source: Izmailov et al., Averaging Weights Leads to Wider Optima, 2018.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.errors import EdgeError, InputError
from tools import tensor_file
from tools.train import color_state, commands

EXAMPLES = """\
example:
  edge-tools color average runs/color/epochs/05.pt runs/color/epochs/10.pt \\
    --output runs/color/mean.pt
  edge-tools quantize color runs/color/mean.pt --data ../shared/data --output models/own
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="epochs/NN.pt of `edge-tools train color`, or its checkpoint.pt",
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write")


def run(args: argparse.Namespace) -> int:
    """Write the mean; `quantize color` and `train color --teacher` read it as a checkpoint."""
    if len(args.checkpoints) < 2:
        raise InputError("one network has no mean; name two or more")
    if args.output.is_dir():
        raise EdgeError(f"{args.output} is a folder; name a file with --output")
    content = color_state.averaged(args.checkpoints)
    made = [commands.of_file(path, "train color") for path in args.checkpoints]
    known = commands.in_order(*made, (args.command,)) if all(made) else ()
    content["config"] |= {"commands": known}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    tensor_file.write(content, args.output)
    epochs = " and ".join(str(epoch) for epoch in content["of_epochs"])
    print(f"{args.output}: the mean after epochs {epochs}")
    return 0
