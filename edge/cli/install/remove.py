"""`edge uninstall-service`: stop, units away; config and state only when asked."""

from __future__ import annotations

import argparse

from edge import install
from edge.cli.install import arguments

HELP = "Stop and remove the systemd service; config and state stay unless --purge is given."
EXAMPLES = """examples:
  sudo edge uninstall-service
  sudo edge uninstall-service --purge --dry-run"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_place(parser)
    parser.add_argument("--purge", action="store_true", help="config, drop-ins and state go too")


def run(args: argparse.Namespace) -> int:
    """Take everything away and say what was done."""
    steps = install.uninstall_steps(arguments.place(args), is_purged=args.purge)
    return arguments.carry_out(steps, args)
