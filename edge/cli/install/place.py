"""`edge install-service`: installs the units and a first config, and starts the daemon."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge import install
from edge.cli.install import arguments

EXAMPLES = """examples:
  sudo /opt/edge/bin/edge install-service
  edge install-service --dry-run
  sudo edge install-service --root /mnt/image

A config file that exists is kept. One daemon per camera: write /etc/edge/door.yaml (with its own
`device`), then: systemctl enable --now edge@door"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_place(parser)
    parser.add_argument(
        "--program",
        type=Path,
        metavar="FILE",
        help=f"the edge command (default: this one; of an image {install.DEFAULT_PROGRAM})",
    )
    parser.add_argument("--no-start", action="store_true", help="neither enable nor start it")


def run(args: argparse.Namespace) -> int:
    """Install everything and print what was done."""
    place = arguments.place(args)
    program = args.program or _program(place)
    steps = install.install_steps(place, program, is_started=not args.no_start)
    return arguments.carry_out(steps, args)


def _program(place: install.Place) -> Path:
    """Return this command; in an image, where its path means nothing, that of the shipped unit."""
    if not place.is_running_system:
        return Path(install.DEFAULT_PROGRAM)
    return Path(sys.executable).parent / "edge"
