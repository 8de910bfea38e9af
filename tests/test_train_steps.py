"""What training runs share: learning rate, average of the weights, patience, checks."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from edge.errors import InputError  # noqa: E402
from tools import tracking  # noqa: E402
from tools.dataset import Dataset  # noqa: E402
from tools.evaluate.accuracy import Accuracy  # noqa: E402
from tools.train import steps  # noqa: E402


def test_learning_rate_rises_over_the_warm_up_then_falls_to_a_twentieth() -> None:
    found = [steps.rate_factor(step, 100, 10) for step in (0, 4, 50, 100)]
    cosine = 0.05 + 0.95 * (0.5 + 0.5 * 0.9921)  # cos(4 % of pi)
    assert found == pytest.approx([0.1, 0.5 * cosine, 0.525, 0.05], abs=1e-3)


def test_average_follows_the_first_steps_and_then_keeps_its_share() -> None:
    average, net = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    for step, moved in ((1, 9 / 11), (100_000, 0.001)):
        torch.nn.init.zeros_(average.weight)
        torch.nn.init.ones_(net.weight)
        steps.update_average(average, net, step, 0.999)
        assert average.weight.item() == pytest.approx(moved, rel=1e-3)


@dataclass
class Run:
    """A run that measures given figures, and keeps what counts as best."""

    figures: list[float]
    kept: list[int]
    step: int = 0
    best: float = -1.0
    bad: int = 0

    def train(self, count: int) -> float:
        self.step += count
        return 1.0

    def measure(self) -> Accuracy:
        ap50 = self.figures.pop(0)
        return Accuracy("set", 1, ap50, ap50, ap50, {})


def test_training_ends_after_as_many_measurements_without_a_better_one(tmp_path: Path) -> None:
    run = Run([0.2, 0.1, 0.3, 0.3, 0.2, 0.9], [])
    args = argparse.Namespace(output=tmp_path, every=5, patience=2)
    schedule = SimpleNamespace(learning_rate=0.1, steps=100, warmup_steps=1, batch=2)
    callbacks = steps.Callbacks(
        run.train, run.measure, lambda: run.kept.append(run.step), lambda: None
    )
    steps.train_and_measure(args, schedule, run, callbacks, tracking.Run())
    assert (run.kept, run.best, run.step) == ([5, 15], 0.3, 25)


def test_checkpoint_with_another_option_is_refused_also_where_it_is_gone() -> None:
    steps.refuse_other_config(Path("last.pt"), {"batch": 8}, {"batch": 8})
    with pytest.raises(InputError, match="another config: --batch 8, --gone 3; name another"):
        steps.refuse_other_config(Path("last.pt"), {"batch": 8, "gone": 3}, {"batch": 16})


@pytest.mark.parametrize("is_crowd", [0, 1])
def test_set_of_crowds_alone_is_reported_as_without_objects(
    is_crowd: int, caplog: pytest.LogCaptureFixture
) -> None:
    one = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": is_crowd}
    with caplog.at_level(logging.WARNING):
        steps.warn_without_objects(Dataset("val", (), {1: "cat"}, (one,)))
    assert len(caplog.messages) == is_crowd
