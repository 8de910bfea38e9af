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
  sudo edge install-service --root /mnt/image --program /opt/edge/bin/edge

A config file that exists is kept. One daemon per camera: write /etc/edge/door.yaml (with its own
`device`), then: systemctl enable --now edge@door"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_place(parser)
    parser.add_argument(
        "--program", type=Path, metavar="FILE", help="the edge command (default: this one)"
    )
    parser.add_argument("--no-start", action="store_true", help="neither enable nor start it")


def run(args: argparse.Namespace) -> int:
    """Install everything and print what was done."""
    program = args.program or Path(sys.executable).parent / "edge"
    steps = install.install_steps(arguments.place(args), program, is_started=not args.no_start)
    return arguments.carry_out(steps, args)
