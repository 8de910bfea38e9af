"""`edge models`: lists the installed models; pulls signed versions and rolls them back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import config_file, lookup, model_store, model_update, registry, signature
from edge.cli.umask import read_by_all
from edge.config import Config
from edge.errors import (
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_UNCHANGED,
    ConfigError,
    EdgeError,
    ModelError,
    one_line,
)
from edge.interpreter import Interpreter
from edge.model_shelf import Shelf, pulled_version
from edge.registry import Source
from edge.signature import PublicKey

EXAMPLES = """examples:
  edge models                                  # load each one: hash, tensors, certificate
  edge models --models-dir /var/lib/edge/models --trusted-key RWQ…      # and its signature
  edge models pull color-64 --config /etc/edge/edge.yaml                # what is in production
  edge models pull color-64 --version 1.3.0 --config /etc/edge/edge.yaml
  edge models rollback color-64 --config /etc/edge/edge.yaml            # the version before
  systemctl reload edge                        # the daemon loads what is linked now"""
PULL_EXAMPLES = """examples:
  edge models pull color-64 --config /etc/edge/edge.yaml                # what is in production
  edge models pull color-64 --stage staging --config /etc/edge/edge.yaml
  edge models pull color-64 --version 1.3.0 --config /etc/edge/edge.yaml && systemctl reload edge
  edge models pull color-64 --exit-code --config /etc/edge/edge.yaml &&
    systemctl reload-or-restart edge           # in a timer: only for what is new"""
ROLLBACK_EXAMPLES = """examples:
  edge models rollback color-64 --config /etc/edge/edge.yaml && systemctl reload edge"""


@dataclass(frozen=True)
class Board:
    """Where this board keeps models, where it pulls them from, and whose keys it trusts."""

    models_dir: Path
    registry: str | None
    trusted: tuple[PublicKey, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--models-dir", metavar="DIR", help="look here first")
    parser.add_argument(
        "--trusted-key", action="append", default=[], metavar="KEY", help="demand its signature"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    pull = _action(actions, "pull", "Bring a signed version into service.", PULL_EXAMPLES)
    rollback = _action(actions, "rollback", "Return to the version before.", ROLLBACK_EXAMPLES)
    for action in (pull, rollback):
        action.add_argument("name", metavar="NAME", help="of the model")
        action.add_argument("--config", type=Path, required=True, metavar="FILE")
    which = pull.add_mutually_exclusive_group()
    which.add_argument("--version", metavar="V", help="this one")
    which.add_argument(
        "--stage",
        choices=("production", "staging"),
        default="production",
        help="default: production",
    )
    pull.add_argument(
        "--exit-code", action="store_true", help="exit with 4 when the version is active already"
    )
    pull.add_argument(
        "--force",
        action="store_true",
        help="also one that is older, failed here or was rolled back",
    )


def _action(actions: Any, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=text,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return action


def run(args: argparse.Namespace) -> int:
    """List the models, or run the action."""
    if args.action == "pull":
        with read_by_all():
            return _pull(args)
    if args.action == "rollback":
        return _rollback(args)
    return _list(args.models_dir, signature.parse_all(args.trusted_key))


def _list(models_dir: str | None, trusted: tuple[PublicKey, ...]) -> int:
    """Print a line per model; return 78 when one of them is broken."""
    folders = model_store.installed(models_dir)
    if not folders:
        raise ModelError("no model is installed; give --models-dir or install edge-camera again")
    broken = 0
    print(
        f"{'name':<22} {'version':<9} {'pulled':<9} {'task':<7} {'input':<9} {'sha256':<14} "
        "certificate"
    )
    for folder in folders:
        try:
            model_update.refuse_unsigned(folder, trusted)
            print(_line(folder))
        except ModelError as error:
            broken += 1
            print(f"{folder.name:<22} BROKEN: {one_line(error)}")
    return EXIT_CONFIG if broken else EXIT_OK


def _line(folder: Path) -> str:
    model = Interpreter.load(folder).manifest
    width, height = model.input.size
    tensors = ", ".join(f"{count} {dtype}" for dtype, count in model.certificate.tensors.items())
    verdict = "integer-only" if model.certificate.integer_only else "NOT integer-only, allowed"
    pulled = pulled_version(lookup.real(folder)) or "-"
    return (
        f"{model.name:<22} {model.version:<9} {pulled:<9} {model.task:<7} {f'{width}x{height}':<9} "
        f"{model.sha256[:12]:<14} {verdict} ({tensors})"
    )


def _pull(args: argparse.Namespace) -> int:
    """Pull a version; with `--exit-code` return 4 when it is active already, and whole."""
    config = config_file.load(args.config)
    board = _board(config)
    if board.registry is None:
        raise ConfigError(f"{args.config}: models.registry is empty; name a folder or s3://…")
    store = registry.open_store(board.registry)
    with _as_owner(board.models_dir) as models_dir, registry.reaching(board.registry):
        shelf, source = Shelf(models_dir, args.name), AsCaller(store)
        before = shelf.active
        version = args.version or registry.choose(
            registry.read_stages(source, args.name, board.trusted), args.stage
        )
        bundle = model_update.pull(source, shelf, version, board.trusted, is_forced=args.force)
    if bundle is None:
        print(f"{args.name} {version}: active already")
        return EXIT_UNCHANGED if args.exit_code else EXIT_OK
    if before == version:
        print(f"{args.name} {version}: was damaged here, pulled again; reload the daemon")
        return EXIT_OK
    step = _next_step(args.name, config, args.config)
    print(
        f"{args.name} {version}: verified (serial {bundle.serial}), golden picture repeated, "
        f"linked; before: {before or _shipped(args.name)}. {step}"
    )
    return EXIT_OK


def _next_step(name: str, config: Config, path: Path) -> str:
    """Return what brings a linked model into service; path: where the config is."""
    if name not in config.models_by_role().values():
        keys = "detector.model, detector.faster_model or color.model"
        return f"The daemon does not use it: name it in {path}, as {keys}"
    return f"The daemon takes it at its next reload (systemctl reload {config_file.unit(path)})"


def _shipped(name: str) -> str:
    return "the shipped one" if model_store.is_shipped_name(name) else "none"


def _rollback(args: argparse.Namespace) -> int:
    board = _board(config_file.load(args.config))
    with _as_owner(board.models_dir) as models_dir:
        try:
            shelf = Shelf(models_dir, args.name)
            version = model_update.roll_back(shelf, "asked for", board.trusted)
        except OSError as error:
            text = f"model {args.name}: cannot go back: {error}; check models_dir"
            raise ModelError(text) from None
    print(f"{args.name}: {version or 'the shipped version'} is linked; reload the daemon")
    return EXIT_OK


def _board(config: Config) -> Board:
    if config.models_dir is None:
        raise ConfigError(
            "models_dir is empty; pulled versions need one, e.g. /var/lib/edge/models"
        )
    folder = Path(config.models_dir)
    _make_models_dir(folder)
    trusted = signature.parse_all(config.models.trusted_keys)
    return Board(folder, config.models.registry, trusted)


class AsCaller:
    """Reads a registry with the rights of whoever called: folder or login may be root's alone."""

    def __init__(self, store: Source) -> None:
        self._store = store

    def get(self, key: str, limit: int) -> bytes:
        """Return at most `limit` bytes of an object."""
        with _acting_as(os.getuid(), os.getgid()):
            return self._store.get(key, limit)


@contextmanager
def _as_owner(folder: Path) -> Iterator[Path]:
    """Let root act as the owner of the board's folder of models; yield a path to it.

    That user, the daemon's, could have put links there that lead root elsewhere. The path is valid
    inside the block, also where the owner may not enter a folder above (/var/lib/private).
    """
    user, group = _owner(folder) if os.geteuid() == 0 else (0, 0)
    if user == 0:
        yield folder
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    inside = f"/proc/self/fd/{descriptor}"
    try:
        with _acting_as(user, group):
            yield Path(inside)
    except EdgeError as error:
        raise type(error)(str(error).replace(inside, str(folder))) from error
    except ImportError as error:  # modules are loaded when they are needed
        raise ConfigError(
            f"models_dir {folder}: its owner, user {user}, cannot read the Python of this "
            f"command, {sys.prefix} ({error}); install edge where the daemon's user can read it"
        ) from None
    finally:
        os.close(descriptor)


def _owner(folder: Path) -> tuple[int, int]:
    """Return user and group of the first on the way to a folder that is not root's, else root's.

    From there on, that user could put a link in place of what follows, the folder included.
    """
    for path in (folder.absolute(), folder.resolve()):
        for one in (*reversed(path.parents), path):
            found = one.lstat()
            if found.st_uid != 0:
                return found.st_uid, found.st_gid
    return 0, 0


@contextmanager
def _acting_as(user: int, group: int) -> Iterator[None]:
    """Have the rights of a user inside the block; only root, or who was root, may change them."""
    before = os.geteuid(), os.getegid()
    if before == (user, group):
        yield
        return
    try:
        _take_rights(user, group)
    except PermissionError:
        raise ConfigError(
            f"root may not act as user {user} here (it lacks CAP_SETUID or CAP_SETGID); run this "
            "command as that user"
        ) from None
    try:
        yield
    finally:
        _take_rights(*before)


def _take_rights(user: int, group: int) -> None:
    os.seteuid(0)
    os.setgroups([group])
    os.setegid(group)
    os.seteuid(user)


def _make_models_dir(folder: Path) -> None:
    """Make the board's folder of models, owned like the folder it is made in."""
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for one in missing if os.geteuid() == 0 else ():
            like = missing[-1].parent.stat()
            os.chown(one, like.st_uid, like.st_gid, follow_symlinks=False)
    except OSError as error:
        raise ConfigError(
            f"models_dir {folder}: {error.strerror}; name a folder that can be made"
        ) from None
