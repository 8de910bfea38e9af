"""`edge-tools registry promote MODEL VERSION STAGE`: sets the version that boards pull."""

from __future__ import annotations

import argparse
from typing import get_args

from edge import registry
from edge.errors import EXIT_OK
from edge.registry import Stage
from tools.registry import options, versions

EXAMPLES = """examples:
  edge-tools registry promote color-64 1.3.0 staging --registry /srv/models --sign-key signing.pem
  edge-tools registry promote color-64 1.3.0 production --registry /srv/models \\
    --sign-key signing.pem"""

STAGES: tuple[Stage, ...] = get_args(Stage)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", metavar="MODEL", help="as registry list names it")
    parser.add_argument("version", metavar="VERSION", help="to put into the stage")
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    options.add_registry(parser)
    options.add_sign_key(parser)


def run(args: argparse.Namespace) -> int:
    """Change the stage; the version previously in it is archived."""
    key = options.sign_key(args)
    store = options.open_registry(args)
    with registry.reaching(args.registry):
        stages = versions.promote(store, args.name, args.version, args.stage, key)
    for version, stage in stages.stages.items():
        print(f"{args.name:<22} {version:<12} {stage}")
    if key is None:
        print("NOT signed: boards that pull by stage will refuse it")
    return EXIT_OK
