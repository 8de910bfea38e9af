"""`edge-tools registry push FOLDER`: registers a model folder as an immutable version."""

from __future__ import annotations

import argparse

from edge import model_store, registry
from edge.errors import EXIT_OK
from tools.arguments import model_version
from tools.registry import options, versions

EXAMPLES = """examples:
  edge-tools registry push models/color-64 --registry /srv/models --sign-key signing.pem
  edge-tools registry push runs/own/model --version 1.4.0 --registry s3://bucket/models \\
    --sign-key signing.pem --stage staging"""
NOT_SIGNED = "NOT signed: boards will refuse it; for them push a new version with --sign-key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="name or folder")
    parser.add_argument(
        "--version", type=model_version, metavar="V", help="default: the manifest's"
    )
    parser.add_argument("--stage", choices=("staging", "production"), help="promote it at once")
    options.add_registry(parser)
    options.add_sign_key(parser)


def run(args: argparse.Namespace) -> int:
    """Check the folder, upload it, and print its name, version and serial number."""
    key = options.sign_key(args)
    store = options.open_registry(args, is_new=True)
    with registry.reaching(args.registry):
        new = versions.push(
            store,
            model_store.find(args.model),
            key,
            version=args.version,
            is_to_be_staged=args.stage is not None,
        )
        if args.stage:
            versions.promote(store, new.name, new.version, args.stage, key)
    signed = f"signed by {key.public.name}" if key else NOT_SIGNED
    print(f"{new.name} {new.version}: registered, serial {new.serial}, {signed}")
    return EXIT_OK
