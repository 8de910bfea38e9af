"""Diagrams of the classifier's figures as PNG files, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.plots import COLORS, save

DPI = 100


def trials(done: Sequence[Any], settings: Sequence[str], path: Path) -> None:
    """Write a search's validation losses plotted over trial number and over each setting.

    done: Optuna's finished trials; pruned ones are drawn hollow.
    """
    figure, plots = _new(len(settings) + 1)
    numbers = np.array([trial.number for trial in done])
    losses = np.array([float(trial.value) for trial in done])
    pruned = np.array([trial.state.name == "PRUNED" for trial in done])
    order = np.argsort(numbers)
    best = np.minimum.accumulate(np.where(pruned, np.inf, losses)[order])
    plots[0].plot(numbers[order], best, drawstyle="steps-post", label="best so far")
    for plot, name in zip(plots, ("trial", *settings), strict=True):
        places = numbers if name == "trial" else np.array([t.params[name] for t in done])
        plot.scatter(places[~pruned], losses[~pruned], s=18, label="finished")
        hollow = {"facecolors": "none", "edgecolors": "gray", "label": "pruned"}
        plot.scatter(places[pruned], losses[pruned], s=18, **hollow)
        plot.set(xlabel=name, ylabel="validation loss")
        if name == "learning_rate":
            plot.set_xscale("log")
        elif name in {"batch", "width"}:
            plot.set_xscale("log", base=2)
            plot.set_xticks(sorted(set(places.tolist())))
            plot.xaxis.set_major_formatter("{x:g}")
    plots[0].legend(fontsize=8)
    _save(figure, path)


def bars(columns: Mapping[str, Mapping[str, float]], path: Path, *, title: str) -> None:
    """Write one bar chart per column: columns is title -> bar name -> value."""
    figure, plots = _new(len(columns))
    figure.suptitle(title)
    for plot, (heading, values) in zip(plots, columns.items(), strict=True):
        drawn = plot.bar(range(len(values)), list(values.values()), color=COLORS[0])
        plot.bar_label(drawn, fmt="%.3g", fontsize=8)
        plot.set_xticks(range(len(values)), list(values), rotation=45, ha="right", fontsize=8)
        plot.set_title(heading, fontsize=10)
    _save(figure, path)


def line(points: Mapping[int, float], path: Path, *, title: str, axes: tuple[str, str]) -> None:
    """Write a line plot of values over numbers, with a logarithmic x axis."""
    figure, (plot,) = _new(1)
    plot.plot(list(points), list(points.values()), "o-")
    plot.set(title=title, xlabel=axes[0], ylabel=axes[1], xscale="log")
    plot.minorticks_off()
    plot.set_xticks(list(points), [str(number) for number in points], rotation=90)
    plot.grid(alpha=0.3)
    _save(figure, path)


def _new(plots: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * plots, 3.8), dpi=DPI, layout="constrained")
    return figure, figure.subplots(1, plots, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    save(figure, path, metadata={"Software": None})
