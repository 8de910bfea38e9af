"""`edge models`: lists the installed models; pulls signed versions and rolls them back."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import config_file, lookup, model_store, model_update, registry, signature
from edge.cli.rights import AsCaller, as_owner, make_like_above, read_by_all
from edge.config import Config
from edge.errors import (
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_UNCHANGED,
    ConfigError,
    ModelError,
    one_line,
)
from edge.interpreter import Interpreter
from edge.model_shelf import Shelf, pulled_version
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
    with as_owner(board.models_dir) as models_dir, registry.reaching(board.registry):
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
    with as_owner(board.models_dir) as models_dir:
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
    make_like_above(folder)
    trusted = signature.parse_all(config.models.trusted_keys)
    return Board(folder, config.models.registry, trusted)
