"""`edge run --config FILE`: the daemon."""

from __future__ import annotations

import argparse
import signal
from functools import partial
from pathlib import Path

import msgspec

from edge import config_file, logs
from edge.config import Config
from edge.service import Service

EXAMPLES = """example:
  edge run --config /etc/edge/edge.yaml

signals: TERM and INT stop (a second one at once), HUP reads the config file again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")


def run(args: argparse.Namespace) -> int:
    """Run until a signal or the end of the file that plays as camera."""
    # Until the service handles SIGHUP, a reload request would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    load = partial(_load, args)
    config = load()
    # Lines carry no time: the journal adds it, and in a terminal the order is enough.
    logs.set_up(config.log, device=config_file.device_name(config))
    return Service(args.config, config, load).run()


def _load(args: argparse.Namespace) -> Config:
    """Return the config file's current content, with the log options of the command line."""
    config = config_file.load(args.config)
    return msgspec.structs.replace(config, log=logs.chosen(args, config.log))
