"""Plots of measurements as PNG files: confusion matrix, precision-recall, calibration.

Drawn with matplotlib's Agg canvas, which needs no display or global state, so any thread or process
may draw. Every function writes one file and creates its folder; a file name with an unknown suffix
raises EdgeError. matplotlib is imported only when needed: it comes with `edge-camera[tools]`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.errors import EdgeError

logger = logging.getLogger(__name__)

DPI = 100
CELL_IN = 0.55  # side of a matrix cell in inches
MAX_WRITTEN_LABELS = 40  # with more labels, numbers in the cells would be unreadable
MAX_MATRIX_IN = 24.0
MAX_TICKS = 120  # with more labels, only every second, third, … name fits beside the matrix
# Told apart by color-blind people. Source: Petroff 2021, Accessible Color Sequences.
COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
DASHES = ("-", "--", ":", "-.")
LEGEND_ROWS = 25
HALF = 0.5
DARK_SHARE = 0.7  # from here on, white is easier to read than black on the color of `Blues`
FORMATS = ("", ".png", ".pdf", ".eps")  # matplotlib adds .png to a name without a suffix


def confusion_matrix(
    counts: NDArray[Any],
    labels: Sequence[str],
    path: Path,
    *,
    title: str,
    axes: tuple[str, str] = ("true", "predicted"),
) -> None:
    """Write a confusion matrix: counts in the cells (up to 40 labels), colored by each row's share.

    counts: (n, n), row = truth, column = prediction, not negative; labels: n names in that order.
    axes: what rows and columns are. Raises ValueError when the sizes differ.
    """
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"{len(labels)} labels, but a matrix of {counts.shape}")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(4.0, CELL_IN * len(labels) + 2), MAX_MATRIX_IN)
    figure, plot = _new(side, side)
    plot.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [literal(label) for label in labels]
    plot.set_title(f"{literal(title)}\ncolor: share of the row, 0 white, 1 dark", fontsize=10)
    plot.set(ylabel=axes[0], xlabel=axes[1])
    every = -(-len(labels) // MAX_TICKS)
    plot.set_xticks(range(0, len(labels), every), names[::every], rotation=90)
    plot.set_yticks(range(0, len(labels), every), names[::every])
    if len(labels) <= MAX_WRITTEN_LABELS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > DARK_SHARE else "black"
            text = f"{counts[row, column]:g}"
            plot.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    _save(figure, path)


def precision_recall(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    path: Path,
    *,
    title: str,
    legend_title: str = "",
) -> None:
    """Write a plot of precision over recall, one line per name; 40 lines look different.

    curves: (recall, precision) by name, each (n,), 0..1; the legend shows the names as given.
    """
    figure, plot = _new(8.0, 5.5)
    lines = [
        plot.plot(*curve, linewidth=1.5, **line_style(place))[0]
        for place, curve in enumerate(curves.values())
    ]
    plot.set(title=literal(title), xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    plot.grid(alpha=0.3)
    if curves:
        columns = -(-len(curves) // LEGEND_ROWS)
        places = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "ncols": columns}
        legend(plot, lines, list(curves), title=legend_title, title_fontsize=8, **places)
    _save(figure, path)


def line_style(place: int) -> dict[str, str]:
    """Return color and dashes: neighbors differ in both, and no two of 40 lines are alike."""
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": DASHES[(place + place // 20) % len(DASHES)],
    }


def reliability_bins(
    confidence: ArrayLike, is_right: ArrayLike, bins: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return mean confidence, accuracy and count of each bin of equal width.

    confidence: (n,), 0..1. is_right: (n,), bool. Empty bins hold NaN, NaN, 0.
    Raises ValueError when the lengths differ.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(is_right, np.float64)
    if sure.shape != right.shape or sure.ndim != 1:
        raise ValueError(f"confidence is {sure.shape}, is_right {right.shape}: not the same list")
    place = np.minimum((sure * bins).astype(np.intp), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, sure, bins) / count
        shares = np.bincount(place, right, bins) / count
    return means, shares, count


def expected_calibration_error(confidence: ArrayLike, is_right: ArrayLike, bins: int = 10) -> float:
    """Return the ECE: mean difference between confidence and accuracy, 0..1; NaN if empty."""
    means, shares, count = reliability_bins(confidence, is_right, bins)
    if not count.sum():
        return float("nan")
    return float(np.nansum(np.abs(means - shares) * count) / count.sum())


def reliability(confidence: ArrayLike, is_right: ArrayLike, path: Path, *, title: str) -> None:
    """Write a reliability diagram: accuracy over confidence, and the counts.

    Arguments as for `reliability_bins`. Perfect calibration lies on the diagonal.
    """
    means, shares, count = reliability_bins(confidence, is_right)
    error = expected_calibration_error(confidence, is_right)
    figure, plot = _new(6.0, 5.5)
    bins = len(count)
    middles = (np.arange(bins) + HALF) / bins
    share = count / max(count.max(), 1)
    plot.bar(middles, share, 1 / bins, color="0.88", label="samples (most = 1)")
    plot.plot([0, 1], [0, 1], "k--", linewidth=1, label="perfect calibration")
    known = count > 0
    plot.plot(means[known], shares[known], "o-", color=COLORS[0], label="measured")
    plot.set(title=f"{literal(title)}, ECE {error:.3f}", xlabel="confidence", ylabel="accuracy")
    plot.set(xlim=(0, 1), ylim=(0, 1))
    plot.legend(fontsize=8, loc="upper left")
    _save(figure, path)


def literal(name: str) -> str:
    """Return a name escaped for matplotlib, which draws text between dollar signs as formulas."""
    return name.replace("$", r"\$")


def legend(plot: Any, drawn: Sequence[Any], names: Sequence[str], **places: Any) -> None:
    """Add a legend with literal names: matplotlib would omit those that begin with `_`."""
    shown = plot.legend(drawn, ["-"] * len(names), fontsize=8, **places)
    for text, name in zip(shown.get_texts(), names, strict=True):
        text.set_text(literal(name))


def save(figure: Any, path: Path, **settings: Any) -> None:
    """Write a figure and create its folder.

    settings: of `Figure.savefig`. Characters that the font lacks are drawn as boxes, and logged
    once per folder. Raises OSError, or EdgeError for a format that matplotlib does not know.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            figure.savefig(path, **settings)
        except ValueError as error:
            raise EdgeError(f"{path}: {error}; use a name that ends in .png") from None
    others = [one for one in caught if "missing from font" not in str(one.message)]
    for one in others:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if len(others) < len(caught):
        _warn_missing_glyphs(path.parent)


@cache
def _warn_missing_glyphs(folder: Path) -> None:
    """Log once per folder that characters of names are drawn as boxes."""
    logger.warning("plot.letters folder=%s are not all in matplotlib's font", folder)


def _new(width_in: float, height_in: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=DPI)
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise EdgeError(f"{path}: unknown format; use a name that ends in .png")
    # Without matplotlib's version in the metadata, equal figures give equal files.
    save(figure, path, bbox_inches="tight", metadata={"Software": None})
