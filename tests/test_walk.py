"""One rendered data set through the whole chain, by the commands that tools/README.md gives."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from class_folders import CLASSES, draw
from edge import manifest
from tools import golden

NEEDED = ("keras", "tensorflow", "optuna", "matplotlib", "rich", "imagehash", "cryptography")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"the walk needs {', '.join(MISSING)}"),
]

ROOT = Path(__file__).parents[1]
TITLE = "## One dataset through the whole chain"
WALK_S = 240  # the whole chain; 57 s on two shared cores


def commands() -> list[str]:
    """The command lines of the guide's section, continued lines joined."""
    section = (ROOT / "tools" / "README.md").read_text().split(f"{TITLE}\n")[1].split("\n## ")[0]
    block = re.findall(r"```\n(.*?)```", section, re.DOTALL)[0].replace("\\\n", " ")
    return [line for line in block.splitlines() if line.strip()]


def environment(folder: Path) -> dict[str, str]:
    """The environment of a shell whose `edge-tools` is the one under test."""
    programs = folder / "programs"
    programs.mkdir()
    program = programs / "edge-tools"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tools "$@"\n')
    program.chmod(0o755)
    own = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return os.environ | own | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def accuracies(folder: Path) -> dict[str, float]:
    with (folder / "runs" / "shapes-measured" / "levels.csv").open() as file:
        return {row["level"]: float(row["accuracy"]) for row in csv.DictReader(file)}


def test_pictures_become_a_signed_integer_only_model_in_production(tmp_path: Path):
    draw(tmp_path / "shapes", 40, 1)
    shell = environment(tmp_path)
    outputs = {}
    began_s = time.monotonic()
    for command in commands():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=shell,
            capture_output=True,
            text=True,
            timeout=WALK_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        outputs[" ".join(command.split()[1:3])] = done.stdout

    assert time.monotonic() - began_s < WALK_S
    sides = [json.loads((tmp_path / "data" / f"{s}.json").read_text()) for s in ("train", "test")]
    assert [len(side["images"]) for side in sides] == [72, 24]
    found = accuracies(tmp_path)
    assert set(found) == {"NQ", "TL", "F16", "DR", "FF", "IO"}
    assert found["NQ"] > 0.75  # chance is .33
    assert found["IO"] > found["NQ"] - 0.15
    assert "signature and hashes checked" in outputs["registry pull"]
    model = manifest.read(tmp_path / "pulled")
    assert (model.name, model.labels) == ("shapes", tuple(sorted(CLASSES)))
    assert model.certificate.integer_only
    assert golden.differences(tmp_path / "pulled") == []
