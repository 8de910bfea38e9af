"""`edge uninstall-service`: stops the daemon and removes its units; config and state on request."""

from __future__ import annotations

import argparse

from edge import install
from edge.cli.install import arguments

EXAMPLES = """examples:
  sudo edge uninstall-service
  sudo edge uninstall-service --purge --dry-run"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_place(parser)
    parser.add_argument("--purge", action="store_true", help="config, drop-ins and state go too")


def run(args: argparse.Namespace) -> int:
    """Remove everything and print what was done."""
    steps = install.uninstall_steps(arguments.place(args), is_purged=args.purge)
    return arguments.carry_out(steps, args)
