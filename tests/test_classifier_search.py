"""What a search continues, and how its trials and other figures are drawn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from tools.classifier import charts, search
from tools.classifier.data import Pictures
from tools.classifier.description import Training
from tools.classifier.train import Run

SETTINGS = Training(learning_rate=0.1, batch=64, dropout=0.5, width=8)


def study(training: Training = SETTINGS, train: str = "a", val: str = "b", label: str = "c") -> str:
    sets = [Pictures(np.zeros(0), np.zeros(0), (), digest, Path()) for digest in (train, val)]
    return search._study_name(Run(training, (label,), *sets, Path()))


def test_search_continues_only_on_the_same_pictures_and_settings() -> None:
    found = [
        study(),
        study(train="other"),
        study(val="other"),  # trials are compared by their loss on these
        study(label="other"),
        study(msgspec.structs.replace(SETTINGS, epochs=9)),
        study(msgspec.structs.replace(SETTINGS, weights="w.keras")),
    ]
    assert len(set(found)) == len(found)
    assert study(Training()) == study()  # differs only in what is searched


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, instead of files."""
    pytest.importorskip("matplotlib")
    found: list[Any] = []
    monkeypatch.setattr(charts, "_save", lambda figure, _path: found.append(figure))
    return found


def trial(number: int, loss: float, state: str = "COMPLETE") -> Any:
    params = {"dropout": loss / 10, "batch": 16 << number % 2}
    return SimpleNamespace(
        number=number, value=loss, state=SimpleNamespace(name=state), params=params
    )


def test_best_loss_so_far_is_that_of_finished_trials_in_order(drawn: list[Any]) -> None:
    by_loss = [trial(3, 0.1, "PRUNED"), trial(2, 0.4), trial(0, 0.7), trial(1, 0.9)]
    charts.trials(by_loss, ["dropout"], Path("search.png"))
    over_number, over_dropout = drawn[0].axes
    (best,) = over_number.lines
    assert list(zip(*best.get_data(), strict=True)) == [(0, 0.7), (1, 0.7), (2, 0.4), (3, 0.4)]
    finished, pruned = (plot.get_offsets().tolist() for plot in over_dropout.collections)
    assert pruned == [pytest.approx([0.01, 0.1])]
    assert len(finished) == 3
    labels = [(plot.get_xlabel(), plot.get_ylabel()) for plot in drawn[0].axes]
    assert labels == [("trial", "validation loss"), ("dropout", "validation loss")]


def test_search_names_the_batch_sizes_that_were_tried(drawn: list[Any]) -> None:
    charts.trials([trial(0, 0.7), trial(1, 0.4), trial(2, 0.5)], ["batch"], Path("search.png"))
    _, over_batch = drawn[0].axes
    drawn[0].draw_without_rendering()
    assert texts(over_batch.get_xticklabels()) == ["16", "32"]
    assert texts(over_batch.get_xticklabels(minor=True)) == []


def texts(shown: Any) -> list[str]:
    return [one.get_text() for one in shown]


def test_bars_and_lines_have_the_heights_and_names_of_their_values(drawn: list[Any]) -> None:
    columns = {"accuracy": {"NQ": 0.9, "IO": 0.875}, "file, MB": {"NQ": 4.0, "IO": 1.25}}
    charts.bars(columns, Path("levels.png"), title="Levels")
    for plot, (heading, values) in zip(drawn[0].axes, columns.items(), strict=True):
        assert plot.get_title() == heading
        assert texts(plot.get_xticklabels()) == list(values)
        assert [bar.get_height() for bar in plot.patches] == list(values.values())
        assert texts(plot.texts) == [f"{value:g}" for value in values.values()]
    charts.line({5: 0.5, 20: 0.75}, Path("l.png"), title="Sweep", axes=("pictures", "accuracy"))
    (plot,) = drawn[1].axes
    assert plot.lines[0].get_xydata().tolist() == [[5, 0.5], [20, 0.75]]
    assert texts(plot.get_xticklabels()) == ["5", "20"]
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("pictures", "accuracy")
