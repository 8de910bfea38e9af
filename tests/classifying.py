"""A classifier taken through every command, for the tests of their results."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from class_folders import CLASSES, draw_splits
from tools.classifier import description
from tools.classifier.description import Description, Training
from waiting import wait_until

ROOT = Path(__file__).parents[1]
CHILD = ROOT / "tests" / "classifier_child.py"
NAMES = tuple(sorted(CLASSES))
TINY = ["--backbone", "TinyNet", "--side", "32", "--width", "8"]
# A closed port in place of the network: downloads fail at once on any machine.
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Walk:
    """The output of the commands of one process, and the folder of their files."""

    folder: Path
    answers: dict[str, tuple[int, str, str]]


def environment(folder: Path) -> dict[str, str]:
    own = {"KERAS_HOME": str(folder / "keras"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/ml.db"}
    return os.environ | NO_NETWORK | own | {"PYTHONPATH": str(ROOT)}


def skip_without(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"classifiers need {module}: pip install 'edge-camera[tools,keras]'")


def run_python(folder: Path, *words: str, given: str | None = None) -> list[str]:
    """Run Python in a folder without a network; return the lines it prints. given: its input."""
    done = subprocess.run(
        [sys.executable, *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(folder),
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_all(folder: Path, commands: dict[str, list[str]]) -> dict[str, tuple[int, str, str]]:
    """Run commands one after another in one process of their own."""
    printed = run_python(folder, str(CHILD), given=json.dumps(list(commands.values())))
    answers = json.loads(printed[-1])
    return {name: tuple(answer) for name, answer in zip(commands, answers, strict=True)}


def train(folder: Path, name: str, *more: str) -> list[str]:
    run = ["train", "classifier", str(folder / "set"), *TINY, "--output", str(folder / name)]
    return [*run, "--patience", "99", "--tracking-uri", f"sqlite:///{folder}/ml.db", *more]


def head(folder: Path, name: str, *more: str) -> list[str]:
    base = str(folder / "base" / "model.keras")
    return train(folder, name, "--weights", base, "--epochs", "60", "--batch", "8", *more)


def taken_through(folder: Path) -> Walk:
    """Train a classifier in a folder and take it through every command."""
    draw_splits(folder / "set", 48)
    data = ["--data", str(folder / "set")]
    base, levels = str(folder / "base"), str(folder / "base" / "levels")
    whole = ["--weights", "none", "--learning-rate", "0.01", "--epochs", "8", "--batch", "16"]
    quantize = ["quantize", "classifier", base, *data]
    smaller = [*quantize, "--prune", "0.3", "--prune-epochs", "1", "--qat", "1", "--levels", "IO"]
    commands = {
        "base": train(folder, "base", *whole, "--validate-every", "2", "--dropout", "0"),
        "levels": [*quantize, "--sweep", "3", "30", "--representative", "60"],
        "smaller": [*smaller, "--output", str(folder / "smaller")],
        "again": ["quantize", base, "--levels", "all", "--representative", "60"],
        "fewer": ["quantize", base, "--levels", "DR", "IO", "--representative", "30",
                  "--output", str(folder / "fewer")],
        "unrecorded": ["validate", f"{levels}/IO", "--max-drop", "0.5"],
        "evaluate": ["evaluate", levels, "--record", "--output", str(folder / "figures")],
        "gates": ["validate", f"{levels}/IO", "--max-params", "1M", "--max-ms", "1000",
                  "--min-accuracy", "0.7", "--max-drop", "0.1"],
        "floats": ["evaluate", f"{levels}/TL", "--record", "--output", str(folder / "floats")],
        "head": head(folder, "whole"),
        "search": head(folder, "search", "--search", "2", "--epochs", "5"),
        "more": head(folder, "search", "--search", "14", "--epochs", "5"),
        "explain": ["explain", "classifier", base, str(folder / "set" / "test" / "red"),
                    "--class", "red", "--output", str(folder / "explained")],
        "imagenet": train(folder, "imagenet", "--backbone", "MobileNet", "--alpha", "0.25"),
        "no-store": [*head(folder, "unstored"), "--tracking-uri", "nowhere://store"],
        "other": train(folder, "base", *whole, "--seed", "7"),
        "misfit": train(folder, "misfit", "--weights", str(CHILD)),
        "corrected": train(folder, "misfit", *whole[:2], "--epochs", "1"),
        "diverged": train(folder, "diverged", *whole, "--learning-rate", "1e38"),
        "unknown": [*train(folder, "unknown"), "--backbone", "MobileNet9"],
        "unreadable": ["quantize", "classifier", str(folder / "broken"), *data],
        "dataless": ["quantize", str(folder / "broken")],
    }  # fmt: skip
    write_unreadable(folder / "broken")
    return Walk(folder, run_all(folder, commands))


def describe(**facts: Any) -> Description:
    """Return the description of a Keras model with these facts."""
    usual = {"backbone": "", "parameters": 1, "level": "NQ", "file": description.KERAS_FILE}
    return Description(**usual | {"train_sha256": "", "training": Training()} | facts)


def write_unreadable(folder: Path) -> None:
    """Write a classifier's folder whose model file is damaged."""
    described = describe(labels=NAMES, side_px=32, backbone="TinyNet")
    description.write(folder, described)
    (folder / described.file).write_bytes(b"no archive")


def output_of(walk: Walk, name: str, code: int) -> str:
    """Return a command's standard output if it succeeded, else its one error line."""
    found, out, err = walk.answers[name]
    assert found == code, err
    if code == 0:
        return out
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def weights_of(path: Path) -> dict[str, Any]:
    """Return the arrays of a model.keras file."""
    import h5py

    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.array(item)

    content = zipfile.ZipFile(path).read("model.weights.h5")
    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(keep)
    return found


def stopped(walk: Walk, command: list[str], is_time: Callable[[], object]) -> None:
    """Run a command and kill its process group at the given moment."""
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=walk.folder,
        env=environment(walk.folder),
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps([command]))
        process.stdin.close()
        wait_until(lambda: is_time() or process.poll() is not None, timeout_s=240)
        os.killpg(process.pid, signal.SIGKILL)
