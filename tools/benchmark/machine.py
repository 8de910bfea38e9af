"""Describes the machine of a measurement."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.health import read_condition
from edge.interpreter import installed_runtime


def read() -> dict[str, Any]:
    """Return the board and its condition before the first measurement; None for unknown facts."""
    condition = read_condition()
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "governor": condition.cpu_governor,
        "cpu_hz": condition.cpu_hz,
        "temperature_c": condition.temperature_c,
        "load_1min": condition.load_1min,
        "python": platform.python_version(),
        "runtime": installed_runtime()[0],
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def cpu_model(device_tree: Path = Path("/proc/device-tree/model")) -> str:
    """Return the board's name from the device tree, else the processor's from /proc/cpuinfo."""
    if device_tree.is_file():
        return device_tree.read_text().rstrip("\0")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return "unknown"


def show(facts: dict[str, Any]) -> None:
    """Print one line per fact."""
    for name, value in facts.items():
        print(f"{name:<14} {'not readable' if value is None else value}")
