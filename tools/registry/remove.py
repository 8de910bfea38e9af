"""`edge-tools registry remove MODEL VERSION`: deletes a version; its number is never reused."""

from __future__ import annotations

import argparse

from edge import registry
from edge.errors import EXIT_OK
from tools.registry import options, versions

EXAMPLES = """example:
  edge-tools registry remove color-64 1.2.0 --registry /srv/models --sign-key signing.pem"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", metavar="MODEL", help="as registry list names it")
    parser.add_argument("version", metavar="VERSION", help="to delete; its number is never reused")
    options.add_registry(parser)
    options.add_sign_key(parser)


def run(args: argparse.Namespace) -> int:
    """Delete a version that is not in production."""
    key = options.sign_key(args)
    store = options.open_registry(args)
    with registry.reaching(args.registry):
        versions.remove(store, args.name, args.version, key)
    print(f"{args.name} {args.version}: removed")
    return EXIT_OK
