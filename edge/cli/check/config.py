"""`edge check-config FILE`: the same check the daemon makes at start."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge import config_file, manifest, model_store
from edge.errors import EXIT_OK
from edge.pipeline import check_labels

HELP = "Check a config file and the models it names."
EXAMPLES = "example:\n  edge check-config /etc/edge/edge.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE")


def run(args: argparse.Namespace) -> int:
    """Print what the file configures; ConfigError or ModelError when it is wrong."""
    config = config_file.load(args.file)
    detector = manifest.read(model_store.find(config.detector.model, config.models_dir))
    check_labels(config, detector.labels)
    if config.color.enabled:
        manifest.read(model_store.find(config.color.model, config.models_dir))
    print(
        f"{args.file}: ok; device {config_file.device_name(config)}, "
        f"cameras {', '.join(config.cameras)}, broker {config.mqtt.host}:{config.mqtt.port}, "
        f"budget {config.budget.frame_ms:g} ms, detector {detector.name}"
    )
    return EXIT_OK
