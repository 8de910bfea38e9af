"""`edge-tools registry pull MODEL`: downloads a version into a folder on a workstation."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edge import registry
from edge.errors import EXIT_OK, InputError
from tools.registry import options

EXAMPLES = """examples (on a board: edge models pull):
  edge-tools registry pull color-64 --output models/color-64 --registry s3://bucket/models
  edge-tools registry pull color-64 --version 1.3.0 --output old --registry /srv/models \\
    --trusted-key RWQ…"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", metavar="MODEL", help="as registry list names it")
    parser.add_argument("--version", metavar="V", help="default: the one in --stage")
    parser.add_argument(
        "--stage",
        choices=("production", "staging"),
        default="production",
        help="default: %(default)s",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="new folder")
    options.add_registry(parser)
    options.add_trusted(parser)


def run(args: argparse.Namespace) -> int:
    """Download a version and check all hashes and, if keys are given, the signature."""
    store = options.open_registry(args)
    trusted = options.trusted(args)
    if args.output.exists():
        raise InputError(f"{args.output}: exists; name a new folder")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=args.output.parent, prefix=".pull-") as temporary,
        registry.reaching(args.registry),
    ):
        version = args.version or registry.choose(
            registry.read_stages(store, args.name, trusted), args.stage
        )
        part = Path(temporary) / "part"
        part.mkdir()
        found = registry.fetch(store, args.name, version, part, trusted)
        part.rename(args.output)
    checked = "signature and hashes" if trusted else "hashes, NOT its signature,"
    print(f"{args.output}: {found.name} {version}, {checked} checked")
    return EXIT_OK
