"""The commands that install and remove the service, called on an image's folder."""

from __future__ import annotations

from pathlib import Path

from edge.cli import main

PROGRAM = "/opt/edge/bin/edge"


def call(root: Path, command: str = "install-service", *more: str) -> int:
    return main([command, "--root", str(root), *more])
