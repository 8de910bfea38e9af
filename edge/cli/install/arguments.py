"""Arguments that both commands share: where to install, and the dry run."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge import install
from edge.cli.rights import read_by_all
from edge.errors import EXIT_OK


def add_place(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments for the place and the dry run."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument(
        "--root", type=_root, default=Path("/"), metavar="DIR", help="folder of an image"
    )
    parser.add_argument(
        "--units-dir",
        type=_units_dir,
        default=install.ADMIN_UNITS,
        metavar="DIR",
        help=f"where units go below the root (default {install.ADMIN_UNITS})",
    )


def _root(text: str) -> Path:
    if not text:  # of Path it would be the working folder
        raise argparse.ArgumentTypeError("empty; name the image's folder, or leave --root out")
    return Path(text)


def _units_dir(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts or len(path.parents) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder such as {install.ADMIN_UNITS}")
    return path


def place(args: argparse.Namespace) -> install.Place:
    """Return the place that the arguments name."""
    return install.Place(args.root, args.units_dir)


def carry_out(steps: list[install.Step], args: argparse.Namespace) -> int:
    """Run and print the steps, or only print them in a dry run; return the exit code."""
    with read_by_all():
        for step in install.run(steps, is_dry=args.dry_run):
            print(f"would {step.text}" if args.dry_run and step.act else step.text)
    return EXIT_OK
