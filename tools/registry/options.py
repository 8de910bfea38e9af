"""Arguments that the registry's commands share."""

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
    """Declare where the registry is."""
    parser.add_argument(
        "--registry",
        default=os.environ.get(REGISTRY_VARIABLE),
        metavar="ADDRESS",
        help=f"folder or s3://bucket/models; default: ${REGISTRY_VARIABLE}",
    )


def add_sign_key(parser: argparse.ArgumentParser) -> None:
    """Declare the key that signs."""
    parser.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help=f"secret key of keygen; its password from ${PASSWORD_VARIABLE}",
    )


def add_trusted(parser: argparse.ArgumentParser) -> None:
    """Declare the keys whose signatures count."""
    parser.add_argument(
        "--trusted-key",
        action="append",
        default=[],
        metavar="KEY",
        help="public key (RWQ…) that must have signed; may be repeated; none: any",
    )


def opened(args: argparse.Namespace) -> Store:
    """Return the registry. Raises ConfigError when none is named."""
    if not args.registry:
        raise ConfigError(f"no registry; give --registry or ${REGISTRY_VARIABLE}")
    return open_store(args.registry)


def sign_key(args: argparse.Namespace) -> SecretKey | None:
    """Return the key that signs, None when none is named."""
    return SecretKey.read(args.sign_key, password()) if args.sign_key else None


def trusted(args: argparse.Namespace) -> tuple[PublicKey, ...] | None:
    """Return the keys whose signatures count, None when none is named: no signature is asked."""
    return parse_all(args.trusted_key) or None


def password() -> bytes | None:
    """Return the secret key's password from the environment, None without."""
    return os.fsencode(os.environ.get(PASSWORD_VARIABLE, "")) or None
