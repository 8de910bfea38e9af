"""The command `edge-tools annotate color`, running, and what it saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cv2
import httpx
import numpy as np

from scenes import truth
from tools.color.data.objects import LABELS_NAME

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).parents[1]
WAIT_S = 60  # on a busy machine


class Annotate:
    """The running command; `url` is its page."""

    def __init__(self, dataset: Path, *options: str) -> None:
        self._command = [sys.executable, "-m", "tools", "annotate", "color", str(dataset)]
        self._options = ("--port", "0", *options)
        self.url = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*self._command, *self._options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        line = self.process.stdout.readline()
        assert line.startswith("label at "), self.process.communicate()[1]
        self.url = line.split()[2]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, path: str, method: str = "GET", **options: Any) -> Any:
        return httpx.request(method, self.url + path, timeout=30, verify=False, **options)


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / LABELS_NAME).read_text())
    return found


def state(chrome: Chrome) -> dict[str, str]:
    """Return what the page says of its state, for tests: index, saved, labelled, outlines."""
    found: dict[str, str] = chrome.execute_script("return {...document.body.dataset}")
    return found


def filled(outlines: list[list[list[float]]]) -> np.ndarray:
    drawn = np.zeros(truth().shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(drawn, [np.array(outline).round().astype(np.int32)], 1)
    return drawn > 0
