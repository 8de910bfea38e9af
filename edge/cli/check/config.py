"""`edge check-config FILE`: the same check the daemon makes at start."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge import config_file, logs, metrics
from edge.capture import check_sources
from edge.config import Config
from edge.errors import EXIT_OK
from edge.messages.signing import read_key
from edge.publisher import options
from edge.service.parts import build_models, load_interpreters
from edge.web import check_installed

EXAMPLES = "example:\n  edge check-config /etc/edge/edge.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE")


def run(args: argparse.Namespace) -> int:
    """Print what the file configures; raise EdgeError if the daemon would not start with it.

    Opens no device.
    """
    config = config_file.load(args.file)
    check_settings(config)
    interpreters = load_interpreters(config)
    build_models(interpreters, config)
    check_sources(config.cameras)
    models = ", ".join(
        f"{role} {interpreter.manifest.name}" for role, interpreter in interpreters.items()
    )
    print(
        f"{args.file}: ok; device {config_file.device_name(config)}, "
        f"cameras {', '.join(config.cameras)}, broker {config.mqtt.host}:{config.mqtt.port}, "
        f"budget {config.budget.frame_ms:g} ms, {models}"
    )
    return EXIT_OK


def check_settings(config: Config) -> None:
    """Raise EdgeError when the daemon would refuse to start for a file or extra of the config.

    Models and source are checked elsewhere: `build_models`, `check_sources`.
    """
    logs.check(config.log)
    options.check(config.mqtt)
    check_installed(config.web)
    metrics.check_installed(config.metrics)
    if config.commands.key_file:
        read_key(Path(config.commands.key_file))
