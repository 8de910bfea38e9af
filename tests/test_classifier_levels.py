"""Levels and sweeps of a conversion: what is converted or measured again, and what is not."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from classifying import describe
from disk import full_disk
from tools.classifier import adapt, convert, description, folder, levels, network, runtime, sweep
from tools.classifier.adapt import Adaptation
from tools.classifier.claim import STATE
from tools.classifier.data import Pictures
from tools.classifier.job import MADE_FROM, Job

NET = SimpleNamespace(count_params=lambda: 5)


def pictures(digest: str) -> Pictures:
    labels = np.array([0, 0, 0, 1, 1, 1])
    return Pictures(np.zeros((6, 4, 4, 3), np.uint8), labels, (), digest, Path())


def a_job(network: str = "a", *, train: str = "t", validation: str = "v", count: int = 4) -> Job:
    described = describe(labels=("cat", "dog"), side_px=4, notes={MADE_FROM: network})
    return Job(described, pictures(train), pictures(validation), count)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Level and number of representative pictures of each conversion; files hold them as text."""
    found: list[tuple[str, int]] = []

    def fake(_net: Any, level: str, pixels: Any) -> bytes:
        found.append((level, len(pixels)))
        return f"{level} {len(pixels)}".encode()

    monkeypatch.setattr(convert, "convert", fake)
    monkeypatch.setattr(folder, "complete", lambda *_: None)
    return found


def write(place: Path, level: str, job: Job) -> str:
    return levels.write_level(place / level, level, NET, job).read_text()


def test_level_is_converted_again_only_for_what_determines_it(
    tmp_path: Path, converted: list[tuple[str, int]]
) -> None:
    for job in (a_job(), a_job(), a_job(count=2)):  # float files need no representative pictures
        assert write(tmp_path, "TL", job).startswith("TL")
    assert len(converted) == 1
    for changed in (a_job(), a_job("b"), a_job(train="other"), a_job(count=2)):
        write(tmp_path, "IO", changed)
        write(tmp_path, "IO", changed)
    assert converted[1:] == [("IO", 4), ("IO", 4), ("IO", 4), ("IO", 2)]
    (tmp_path / "IO" / description.TFLITE_FILE).unlink()
    assert write(tmp_path, "IO", a_job(count=2)) == "IO 2"


def test_description_of_a_level_says_how_it_was_calibrated(
    tmp_path: Path, converted: list[tuple[str, int]]
) -> None:
    for level in ("TL", "IO"):
        write(tmp_path, level, a_job(count=99))
    float_level, integer = (description.read(tmp_path / level) for level in ("TL", "IO"))
    assert (integer.level, integer.file, integer.parameters) == ("IO", "model.tflite", 5)
    assert integer.notes["calibration"] == "6 training pictures, stratified by class"
    assert integer.notes["calibration data"] == "sha256 t"
    assert "calibration" not in float_level.notes


def test_half_written_level_is_not_taken_for_the_former_one(
    tmp_path: Path, converted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write(tmp_path, "IO", a_job()) == "IO 4"
    with monkeypatch.context() as patched:
        patched.setattr(folder, "complete", raise_full)
        with pytest.raises(OSError, match="full"):
            write(tmp_path, "IO", a_job(count=2))
    assert write(tmp_path, "IO", a_job()) == "IO 4"


def test_full_disk_names_the_file_and_leaves_no_part(
    tmp_path: Path, converted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model:
        def __init__(self, *_: Any) -> None: ...

        def save(self, path: Path) -> None:
            path.write_bytes(bytes(100))

    monkeypatch.setattr(runtime, "load", lambda: (SimpleNamespace(Model=Model), None))
    net = SimpleNamespace(count_params=lambda: 5, input=None, output=None)
    for level, name in (("NQ", description.KERAS_FILE), ("TL", description.TFLITE_FILE)):
        target = tmp_path / level
        with full_disk(3), pytest.raises(OSError, match="File too large") as caught:
            levels.write_level(target, level, net, a_job())
        assert caught.value.filename == str(target / name)
        assert list(target.iterdir()) == []


def test_adaptation_names_only_what_is_asked_for() -> None:
    pruned, trained = Adaptation(0.3, 3, 0, 1e-4), Adaptation(0, 3, 2, 1e-4)
    assert (bool(pruned), bool(trained), bool(Adaptation(0, 3, 0, 1e-4))) == (True, True, False)
    assert str(pruned) == "prune 0.3, 3 epochs, rate 0.0001"
    assert str(trained) == "qat 2 epochs, rate 0.0001"


def test_adapted_network_is_reused_only_for_what_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Adaptation] = []

    def fake(net: Any, _job: Job, asked: Adaptation, state: Path) -> tuple[Any, dict[str, str]]:
        made.append(asked)
        state.mkdir(parents=True)
        return net, {"pruning": "some"}

    monkeypatch.setattr(adapt, "_adapt", fake)
    monkeypatch.setattr(network, "save", lambda _net, path: path.write_text("network"))
    monkeypatch.setattr(network, "load", lambda path: path.read_text())
    third, half = (Adaptation(share, 3, 0, 1e-4) for share in (0.3, 0.5))
    assert adapt.adapted(NET, a_job(), third, tmp_path)[0] is NET
    found, job = adapt.adapted(NET, a_job(), third, tmp_path)
    assert found == "network"
    assert job.described.notes["pruning"] == "some"
    assert (len(made), job.described.parameters) == (1, 5)
    for other in (a_job("b"), a_job(train="x"), a_job(validation="x")):
        adapt.adapted(NET, other, third, tmp_path)
    assert len(made) == 4
    with monkeypatch.context() as patched:
        patched.setattr(description, "write", raise_full)
        with pytest.raises(OSError, match="full"):
            adapt.adapted(NET, a_job(), half, tmp_path)
    adapt.adapted(NET, other, third, tmp_path)
    assert made[4:] == [half, third]
    assert not (tmp_path / STATE).exists()


def raise_full(*_: object, **__: object) -> None:
    raise OSError("full")


def test_levels_are_written_in_one_order_each_once() -> None:
    assert levels._levels(["IO", "NQ", "IO"]) == ("NQ", "IO")
    assert levels._levels(["DR", "all"]) == convert.LEVELS


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of representative pictures whose accuracy was measured: a twentieth of each."""
    found: list[int] = []

    def fake(_net: Any, pixels: Any, _validation: Pictures, _output: Path) -> float:
        found.append(len(pixels))
        return len(pixels) / 20

    monkeypatch.setattr(sweep, "_accuracy", fake)
    monkeypatch.setattr(sweep.charts, "line", lambda *_, **__: None)
    return found


def test_sweep_measures_each_number_once_and_tabulates_earlier_ones(
    tmp_path: Path, measured: list[int]
) -> None:
    sweep.sweep(NET, a_job(), (50, 2, 4, 2, 99), tmp_path)  # there are six pictures
    assert measured == [2, 4, 6]
    sweep.sweep(NET, a_job(), (4, 3), tmp_path)
    assert measured[3:] == [3]
    rows = list(csv.reader((tmp_path / sweep.TABLE_FILE).read_text().splitlines()))
    assert rows[0] == ["pictures", "val_accuracy"]
    assert rows[1:] == [["2", "0.1"], ["3", "0.15"], ["4", "0.2"], ["6", "0.3"]]


@pytest.mark.parametrize("other", [a_job("b"), a_job(train="x"), a_job(validation="x")])
def test_sweep_of_another_network_or_data_reuses_nothing(
    tmp_path: Path, measured: list[int], other: Job
) -> None:
    for job in (a_job(), other):
        sweep.sweep(NET, job, (2,), tmp_path)
    assert measured == [2, 2]


def test_sweep_stopped_midway_or_damaged_measures_only_what_is_missing(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sweep.charts, "line", raise_full)
        with pytest.raises(OSError, match="full"):
            sweep.sweep(NET, a_job(), (2, 3), tmp_path)
    sweep.sweep(NET, a_job(), (2, 3, 4), tmp_path)
    assert measured == [2, 3, 4]
    (tmp_path / sweep.POINTS_FILE).write_text("{")
    sweep.sweep(NET, a_job(), (2,), tmp_path)
    assert measured == [2, 3, 4, 2]
