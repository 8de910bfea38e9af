"""`edge infer` ended by a signal: the results so far are kept."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from edge.cli import infer as infer_command
from edge.color import ColorModel
from edge.errors import EXIT_FAILURE
from edge.inference import inputs as infer_pictures
from edge.values import ColorScore, Image
from inferring import Infer, save, street
from waiting import wait_until


def three_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write a.png, b.png and c.png; return a list that gets their names as they are read."""

    def noted(path: Path) -> Image:
        read.append(path.name)
        return read_image(path)

    read: list[str] = []
    read_image = infer_pictures.read_image
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name, street())
    monkeypatch.setattr(infer_pictures, "read_image", noted)
    return read


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_keeps_the_results_so_far(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
):
    read = infer_pictures.read_image

    def interrupted(path: Path) -> Image:
        if path.name == "b.png":
            signal.raise_signal(number)
        return read(path)

    for name in ("a.png", "b.png"):
        save(tmp_path / name, street())
    monkeypatch.setattr(infer_pictures, "read_image", interrupted)
    signal.signal(number, signal.default_int_handler)  # a job in the background ignores it
    code, document = infer(tmp_path)
    assert code == EXIT_FAILURE
    assert [Path(entry["file"]).name for entry in document] == ["a.png"]
    assert infer.complaints == ["edge: stopped; the document has what was found so far"]


def test_ctrl_c_while_a_result_is_awaited_keeps_it(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    classify = ColorModel.classify

    def interrupted(model: ColorModel, bgr: Image, label: str | None) -> list[ColorScore]:
        if not calls:
            calls.append("a.png")
            wait_until(lambda: len(read) == 2)
            time.sleep(0.1)  # until the main thread waits for this one
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return classify(model, bgr, label)

    calls: list[str] = []
    read = three_pictures(tmp_path, monkeypatch)
    monkeypatch.setattr(ColorModel, "classify", interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code, document = infer(tmp_path, task="color")
    assert code == EXIT_FAILURE
    assert [Path(entry["file"]).name for entry in document] == ["a.png", "b.png"]


def test_ctrl_c_during_the_last_pictures_loses_none(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    classify = ColorModel.classify

    def interrupted(model: ColorModel, bgr: Image, label: str | None) -> list[ColorScore]:
        if next(calls) == 0:
            wait_until(lambda: len(read) == 3)
            time.sleep(0.1)  # until the main thread waits for this one
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return classify(model, bgr, label)

    calls = itertools.count()
    read = three_pictures(tmp_path, monkeypatch)
    monkeypatch.setattr(ColorModel, "classify", interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code, document = infer(tmp_path, "--threads", 3, task="color")
    assert code == EXIT_FAILURE
    assert [Path(entry["file"]).name for entry in document] == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_second_signal_does_not_disturb_the_writing_of_results(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch, second: signal.Signals
):
    write = infer_command._write

    def interrupted(*args: Any) -> None:
        signal.raise_signal(second)
        write(*args)

    def ended(path: Path) -> Image:
        signal.raise_signal(signal.SIGTERM)
        return read(path)

    read = infer_pictures.read_image
    save(tmp_path / "a.png", street())
    monkeypatch.setattr(infer_pictures, "read_image", ended)
    monkeypatch.setattr(infer_command, "_write", interrupted)
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_DFL)
    assert infer(tmp_path) == (EXIT_FAILURE, [])


def test_run_under_nohup_survives_its_terminal(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path / "a.png", street())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    infer(tmp_path)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
