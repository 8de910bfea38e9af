"""`edge-tools registry keygen FILE`: makes a key pair to sign and verify model versions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edge.errors import EXIT_OK, ConfigError
from edge.signature import PUBLIC_SUFFIX, SecretKey
from tools.registry import options

EXAMPLES = f"""examples:
  edge-tools registry keygen signing.pem
  {options.PASSWORD_VARIABLE}=… edge-tools registry keygen signing.pem     # encrypted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="new secret key (PEM)")


def run(args: argparse.Namespace) -> int:
    """Write the secret key, readable only by its owner, and FILE.pub; print the public key."""
    key = SecretKey.generate()
    public = args.file.with_name(args.file.name + PUBLIC_SUFFIX)
    if os.path.lexists(public):
        raise ConfigError(f"public key {public}: there already; name a new file")
    try:
        pem = key.pem(options.password())
    except ValueError as error:
        raise ConfigError(f"${options.PASSWORD_VARIABLE}: {error}; take a shorter one") from None
    try:
        descriptor = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"secret key {args.file}: {error.strerror}; name a new file") from None
    text = f"untrusted comment: minisign public key {key.public.name}\n{key.public.text()}\n"
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        public.write_text(text)
    except OSError:  # a secret key alone would block the next attempt
        args.file.unlink()
        public.unlink(missing_ok=True)
        raise
    print(f"{args.file}: keep it secret; {public}: give it to boards (models.trusted_keys)")
    print(key.public.text())
    return EXIT_OK
