"""`edge-tools registry list`: models, versions and their stages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

from edge import registry
from edge.errors import EXIT_OK
from edge.registry import Store
from tools.registry import options

EXAMPLES = """examples:
  edge-tools registry list --registry /srv/models
  edge-tools registry list color-64 --registry s3://bucket/models"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="MODEL", help="only this one")
    options.add_registry(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per version, oldest first."""
    store = options.open_registry(args)
    with registry.reaching(args.registry):
        lines = list(_lines(store, [args.name] if args.name else store.names("")))
    for line in lines:
        print(line)
    if not lines:
        print(f"registry {args.registry}: no {args.name or 'model'} in it", file=sys.stderr)
    return EXIT_OK


def _lines(store: Store, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        held = registry.read_stages(store, name).stages
        for one in registry.versions(store, name):
            size = sum(fact.bytes for fact in one.files.values()) / 1e6
            stage = held.get(one.version, "none")
            yield f"{name:<22} {one.version:<12} {one.serial:>5} {stage:<11} {size:7.2f} MB"
