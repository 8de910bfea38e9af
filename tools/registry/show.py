"""`edge-tools registry show MODEL VERSION`: files with hashes, manifest, certificate, signer."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

import msgspec

from edge import bundle, manifest, registry
from edge.errors import EXIT_OK
from edge.signature import PublicKey, verify
from tools.registry import options

EXAMPLES = """examples:
  edge-tools registry show color-64 1.3.0 --registry /srv/models
  edge-tools registry show color-64 1.3.0 --registry /srv/models --trusted-key RWQ… --card"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", metavar="MODEL", help="as registry list names it")
    parser.add_argument("version", metavar="VERSION", help="of this model")
    parser.add_argument("--card", action="store_true", help="print the card, too")
    options.add_registry(parser)
    options.add_trusted(parser)


def run(args: argparse.Namespace) -> int:
    """Download the version, which checks all hashes, and print files, manifest and signer."""
    store = options.open_registry(args)
    trusted = options.trusted(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with registry.reaching(args.registry):
            found = registry.fetch(store, args.name, args.version, folder, trusted)
            stage = registry.read_stages(store, args.name).stages.get(args.version, "none")
        print(f"{found.name} {found.version}, serial {found.serial}, stage {stage}")
        print(f"signature: {_signer(folder, trusted)}")
        for name, fact in sorted(found.files.items()):
            print(f"  {fact.sha256}  {fact.bytes:>9}  {name}")
        described = manifest.read(folder)
        shown = msgspec.structs.asdict(described)
        for key in ("task", "parameters", "licence", "certificate", "accuracy"):
            print(f"{key}: {msgspec.json.encode(shown[key]).decode()}")
        if args.card:
            with contextlib.suppress(FileNotFoundError):
                print((folder / "CARD.md").read_text("utf-8", "replace"))
    return EXIT_OK


def _signer(folder: Path, trusted: tuple[PublicKey, ...] | None) -> str:
    path = folder / bundle.SIGNATURE_NAME
    if not path.exists():
        return "none"
    if not trusted:
        return "there, not checked: give --trusted-key"
    content = (folder / bundle.BUNDLE_NAME).read_bytes()
    return f"by {verify(content, path.read_bytes(), trusted).name}"
