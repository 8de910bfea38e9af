"""The commands that install and remove the service, called on an image's folder."""

from __future__ import annotations

from pathlib import Path

from edge.cli import main

PROGRAM = "/opt/edge/bin/edge"


def call(root: Path, command: str = "install-service", *more: str) -> int:
    return main([command, "--root", str(root), *more])


def tree(root: Path) -> dict[str, str]:
    """Every file below a folder, with its text."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in files}
