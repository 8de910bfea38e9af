"""Diagrams show the figures they were given: read back from their pixels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from edge.errors import EdgeError
from tools import plots


def pixels(path: Path) -> np.ndarray:
    bgr = cv2.imread(str(path))
    assert bgr is not None
    assert min(bgr.shape[:2]) > 200
    return bgr


def blue_cells(bgr: np.ndarray) -> int:
    """Pixels of the darkest blue that `Blues` ends with: cells of share 1."""
    return int((np.abs(bgr.astype(int) - (107, 48, 8)).sum(2) < 12).sum())


def test_confusion_matrix_is_darkest_at_the_largest_share_of_a_row(tmp_path: Path) -> None:
    right = np.diag([5, 9, 1])
    plots.confusion_matrix(right, ["a", "b", "c"], tmp_path / "new" / "right.png", title="all")
    even = np.ones((3, 3), int)
    plots.confusion_matrix(even, ["a", "b", "c"], tmp_path / "even.png", title="even")
    dark = blue_cells(pixels(tmp_path / "new" / "right.png"))
    assert dark > 1000
    assert blue_cells(pixels(tmp_path / "even.png")) == 0


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The diagrams that are drawn, instead of files."""
    found: list[Any] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: found.extend(figure.axes))
    return found


def texts(shown: Any) -> list[str]:
    return [one.get_text() for one in shown]


def test_cells_of_a_confusion_matrix_hold_the_counts(drawn: list[Any]) -> None:
    counts = np.array([[3, 2], [1, 3]])
    plots.confusion_matrix(counts, ["a", "b"], Path("c.png"), title="t")
    (plot,) = drawn
    written = {text.get_position(): (text.get_text(), text.get_color()) for text in plot.texts}
    assert written == {
        (0, 0): ("3", "black"),
        (1, 0): ("2", "black"),
        (0, 1): ("1", "black"),
        (1, 1): ("3", "white"),
    }
    assert plot.images[0].get_array().tolist() == [[0.6, 0.4], [0.25, 0.75]]  # shares of the row
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("predicted", "true")
    assert texts(plot.get_xticklabels()) == texts(plot.get_yticklabels()) == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "cells", "names"),
    [(40, 40, ["0", "1", "2"]), (41, 0, ["0", "1", "2"]), (121, 0, ["0", "2", "4"])],
)
def test_large_confusion_matrix_has_fewer_texts(
    labels: int, cells: int, names: list[str], drawn: list[Any]
) -> None:
    every = [str(number) for number in range(labels)]
    plots.confusion_matrix(np.eye(labels, dtype=int), every, Path("c.png"), title="t")
    (plot,) = drawn
    assert len(plot.texts) == cells
    assert texts(plot.get_xticklabels())[:3] == texts(plot.get_yticklabels())[:3] == names


def test_precision_is_drawn_over_recall_under_the_names_given(drawn: list[Any]) -> None:
    curves = {"_car": ([0.0, 0.5], [1.0, 0.25]), "dog": ([0.0, 1.0], [0.5, 0.125])}
    plots.precision_recall(curves, Path("p.png"), title="set", legend_title="AP")
    (plot,) = drawn
    found = [line.get_xydata().T.tolist() for line in plot.lines]
    assert found == [list(curve) for curve in curves.values()]
    assert texts(plot.get_legend().get_texts()) == list(curves)
    assert plot.get_legend().get_title().get_text() == "AP"
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("recall", "precision")


def test_reliability_diagram_has_accuracy_over_confidence_and_the_counts(drawn: list[Any]) -> None:
    confidence, is_right = [0.25, 0.25, 0.75, 0.75, 0.75, 0.75], [1, 0, 1, 1, 1, 0]
    plots.reliability(confidence, is_right, Path("r.png"), title="IO")
    (plot,) = drawn
    diagonal, measured = (line.get_xydata().tolist() for line in plot.lines)
    assert diagonal == [[0, 0], [1, 1]]
    assert measured == [[0.25, 0.5], [0.75, 0.75]]
    bars = {round(bar.get_x(), 3): bar.get_height() for bar in plot.patches if bar.get_height()}
    assert bars == {0.2: 0.5, 0.7: 1}
    assert plot.get_title() == "IO, ECE 0.083"


def test_confusion_matrix_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 labels"):
        plots.confusion_matrix(np.eye(3), ["a", "b"], tmp_path / "x.png", title="x")


@pytest.mark.parametrize("name", ["a.foo", "a.jpg"])
def test_file_name_of_another_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"use a name that ends in \.png"):
        plots.confusion_matrix(np.eye(2), ("a", "b"), tmp_path / name, title="t")


def test_precision_recall_draws_each_curve_and_equal_curves_give_equal_files(
    tmp_path: Path,
) -> None:
    recall = np.linspace(0, 1, 11)
    curves = {"person .9": (recall, 1 - recall / 4), "car .4": (recall, 1 - recall)}
    for name in ("one.png", "two.png"):
        plots.precision_recall(curves, tmp_path / name, title="set")
    plots.precision_recall({}, tmp_path / "none.png", title="set")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    orange = np.abs(pixels(tmp_path / "one.png").astype(int) - (14, 169, 255)).sum(2) < 40
    assert orange.sum() > 100
    assert pixels(tmp_path / "none.png").std() > 1


def test_reliability_bins_hold_means_and_shares() -> None:
    means, shares, count = plots.reliability_bins([0.05, 0.15, 0.12, 1.0], [0, 1, 0, 1])
    assert count.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert means[1] == pytest.approx(0.135)
    assert shares[1] == 0.5
    assert shares[9] == 1.0
    assert np.isnan(shares[2])


def test_calibration_error_is_the_weighted_distance() -> None:
    assert plots.expected_calibration_error([0.9] * 10, [1] * 9 + [0]) == pytest.approx(0.0)
    assert plots.expected_calibration_error([1.0] * 4, [0] * 4) == pytest.approx(1.0)
    half = plots.expected_calibration_error([1.0, 1.0, 0.05, 0.05], [0, 0, 0, 0])
    assert half == pytest.approx(0.525)
    assert np.isnan(plots.expected_calibration_error([], []))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same list"):
        plots.reliability_bins([0.1, 0.2], [1])


def test_reliability_diagram_is_drawn_also_for_nothing(tmp_path: Path) -> None:
    plots.reliability([0.2, 0.9, 0.7], [0, 1, 1], tmp_path / "some.png", title="some")
    plots.reliability([], [], tmp_path / "none.png", title="none")
    assert (tmp_path / "some.png").read_bytes() != (tmp_path / "none.png").read_bytes()
    pixels(tmp_path / "none.png")


def test_dollar_signs_in_names_are_not_parsed_as_math(tmp_path: Path) -> None:
    names = ["$_$", "a $b$"]
    plots.confusion_matrix(np.eye(2, dtype=int), names, tmp_path / "c.png", title="$^$")
    plots.precision_recall({"$_$": ([0, 1], [1, 0])}, tmp_path / "p.png", title="$^$")
    plots.reliability([0.5], [True], tmp_path / "r.png", title="$^$")
    for name in "cpr":
        pixels(tmp_path / f"{name}.png")


def test_a_legend_shows_names_that_begin_with_an_underscore(tmp_path: Path) -> None:
    curve = (np.linspace(0, 1, 11), np.linspace(1, 0, 11))
    for name in ("_car", "-", "_bicycle in the rain"):
        plots.precision_recall({name: curve}, tmp_path / f"{name}.png", title="set")
    widths = [
        pixels(tmp_path / f"{name}.png").shape[1] for name in ("-", "_car", "_bicycle in the rain")
    ]
    assert widths == sorted(set(widths))


def test_letters_missing_in_the_font_give_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one.png", "two.png"):
        plots.confusion_matrix(np.eye(2), ["人物", "車"], tmp_path / name, title="t")
    (line,) = caplog.messages
    assert str(tmp_path) in line


def test_hundreds_of_labels_fit_one_picture_of_moderate_size(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(300)]
    plots.confusion_matrix(np.eye(300, dtype=int), names, tmp_path / "c.png", title="many")
    assert max(pixels(tmp_path / "c.png").shape) < 3000


def test_forty_lines_differ_and_neighbors_differ_in_color_and_dashes() -> None:
    styles = [plots.line_style(place) for place in range(40)]
    assert len({tuple(style.values()) for style in styles}) == 40
    for one, other in pairwise(styles):
        assert one["color"] != other["color"]
        assert one["linestyle"] != other["linestyle"]
