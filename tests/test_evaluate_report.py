"""The tables and CSV rows of an evaluation."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("pycocotools")

from edge.errors import EdgeError
from tools.evaluate import report
from tools.evaluate.accuracy import Accuracy, GroupAccuracy
from tools.evaluate.report import Measured
from tools.evaluate.subjects import Subject

NAN = float("nan")


def measured(name: str, ap: float, **more: object) -> Measured:
    subject = Subject(
        name=name,
        detect=lambda _: [],
        invoke=lambda: None,
        folder=None,
        size="352x352",
        arithmetic="integer-only",
        file_bytes=1_240_000,
        runtime="some",
        digest="",
        labels=("[red]", "car"),
    )
    accuracy = Accuracy(
        dataset="val",
        images=7,
        ap=ap,
        ap50=0.6,
        ap75=0.3,
        classes={
            "[red]": GroupAccuracy(0.5, 0.75, 4, 0.25),  # a name that rich would take for markup
            "car": GroupAccuracy(NAN, NAN, 0),
        },
        sizes={"small": GroupAccuracy(0.125, 0.5, 3, 0.0)},
    )
    return Measured(subject, accuracy, **more)  # type: ignore[arg-type]


def cells(shown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in shown.splitlines()]


def test_table_of_one_model_has_a_row_for_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([measured("m", 0.4, invoke_ms={"p50": 1.5, "p95": 2.0, "p99": 2.25})])
    shown = capsys.readouterr().out
    rows = cells(shown)
    assert ["all", "4", "0.400", "0.600", "0.300"] in rows
    assert ["[red]", "4", "0.500", "0.750", "0.250"] in rows
    assert ["car", "0", "-", "-", "-"] in rows
    assert ["small", "3", "0.125", "0.500", "0.000"] in rows
    told = " ".join(shown.split())
    assert "m on val, 7 pictures" in told
    assert "352x352, integer-only, some; invoke p50 / p95 / p99 1.50 / 2.00 / 2.25 ms" in told


def test_untimed_model_has_no_times(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([measured("m", 0.4)])
    assert "invoke" not in capsys.readouterr().out


def test_models_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    times = ({"p50": 1.5}, {"p50": 3.0})
    report.show(
        [
            measured(name, ap, invoke_ms=ms, relative=ms["p50"] / 1.5)
            for name, ap, ms in zip(("a", "b"), (0.4, NAN), times, strict=True)
        ]
    )
    rows = cells(capsys.readouterr().out)
    assert ["file, MB", "1.24", "1.24"] in rows
    assert ["AP", "0.400", "-"] in rows
    assert ["invoke p50, ms", "1.50", "3.00"] in rows
    assert ["time, relative", "1.00", "2.00"] in rows
    assert ["AP50 [red]", "0.750", "0.750"] in rows
    assert ["AP50 car", "-", "-"] in rows


def test_table_of_six_models_in_a_file_has_whole_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["yolox-nano-288", "yolox-nano-352", "yolox-nano-480", "FastestDet"]
    names += ["ssd_mobilenet_v1_coco_uint8", "yolov5n_coco_int8"]
    report.show([measured(name, 0.4) for name in names])
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_csv_has_empty_cells_for_missing_figures(tmp_path: Path) -> None:
    report.write_csv([measured("m", 0.4)], tmp_path / "new" / "t.csv")
    rows = list(csv.reader((tmp_path / "new" / "t.csv").read_text().splitlines()))
    assert rows[0] == ["model", "group", "name", "objects", "ap", "ap50", "ap75"]
    assert rows[1:3] == [
        ["m", "all", "all", "4", "0.4", "0.6", "0.3"],
        ["m", "classes", "[red]", "4", "0.5", "0.75", "0.25"],
    ]
    assert ["m", "classes", "car", "0", "", "", ""] in rows


def test_csv_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"Is a directory; name a file that can be written"):
        report.write_csv([measured("m", 0.4)], tmp_path)
