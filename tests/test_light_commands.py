"""Commands that need neither pictures nor broker do not import their libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge.cli import COMMANDS

HEAVY = "{'cv2', 'paho', 'sqlite3', 'litestar', 'ai_edge_litert', 'tflite_runtime', 'edge.service'}"


@pytest.mark.parametrize(
    "module", ["check.schema", "sign", "install.place", "install.remove", "progress"]
)
def test_a_light_command_imports_no_heavy_library(module: str):
    script = f"import sys, edge.cli.{module}; print({HEAVY} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_help_imports_no_command():
    script = "import atexit, sys, edge.cli; atexit.register(lambda: print(*sys.modules)); "
    done = subprocess.run(
        [sys.executable, "-c", f"{script} edge.cli.main(['--help'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sign-command" in done.stdout
    assert not {module for module, _ in COMMANDS.values()} & set(done.stdout.split())
