"""Arguments shared by the registry's commands."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edge.errors import ConfigError
from edge.registry import Store, open_store
from edge.signature import PublicKey, SecretKey, parse_all

REGISTRY_VARIABLE = "EDGE_REGISTRY"
PASSWORD_VARIABLE = "EDGE_SIGN_PASSWORD"  # noqa: S105 - a variable's name


def add_registry(parser: argparse.ArgumentParser) -> None:
    """Declare --registry."""
    parser.add_argument(
        "--registry",
        default=os.environ.get(REGISTRY_VARIABLE),
        metavar="ADDRESS",
        help=f"folder or s3://bucket/models; default: ${REGISTRY_VARIABLE}",
    )


def add_sign_key(parser: argparse.ArgumentParser) -> None:
    """Declare --sign-key."""
    parser.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help=f"secret key of keygen; its password from ${PASSWORD_VARIABLE}",
    )


def add_trusted(parser: argparse.ArgumentParser) -> None:
    """Declare --trusted-key."""
    parser.add_argument(
        "--trusted-key",
        action="append",
        default=[],
        metavar="KEY",
        help="accept only signatures by this public key (RWQ…); may be repeated; default: no check",
    )


def open_registry(args: argparse.Namespace, *, is_new: bool = False) -> Store:
    """Return the registry. is_new: its folder need not exist yet.

    Raises ConfigError when none is given, and what `open_store` raises.
    """
    if not args.registry:
        raise ConfigError(f"no registry; give --registry or ${REGISTRY_VARIABLE}")
    return open_store(args.registry, is_new=is_new)


def sign_key(args: argparse.Namespace) -> SecretKey | None:
    """Return the signing key, None if none is given."""
    return SecretKey.read(args.sign_key, password()) if args.sign_key else None


def trusted(args: argparse.Namespace) -> tuple[PublicKey, ...] | None:
    """Return the trusted keys; None if none are given: signatures are then not checked."""
    return parse_all(args.trusted_key) or None


def password() -> bytes | None:
    """Return the secret key's password from the environment, None if it is not set."""
    return os.fsencode(os.environ.get(PASSWORD_VARIABLE, "")) or None
