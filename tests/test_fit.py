"""What a training stage reports about its epochs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from tools.classifier import data, fit, train
from tools.classifier.data import Pictures
from tools.classifier.fit import Plan, Samples


class ScriptedNetwork:
    """Answers each batch with the next loss, as Keras does: a running mean until it is reset."""

    optimizer = SimpleNamespace(learning_rate=0.5)

    def __init__(self, losses: list[float]) -> None:
        self._losses = iter(losses)
        self._seen: list[float] = []

    def reset_metrics(self) -> None:
        self._seen.clear()

    def train_on_batch(self, inputs: Any, labels: Any) -> float:
        assert len(inputs) == len(labels)
        self._seen.append(next(self._losses))
        return sum(self._seen) / len(self._seen)


def test_loss_of_an_epoch_is_the_mean_over_its_pictures() -> None:
    labels = np.zeros(8, np.int64)
    samples = Samples(lambda rows, _: rows.astype(np.float32), labels)
    plan = Plan("head", 9, batch=3, learning_rate=0.5, patience=9, validate_every=5, seed=1)
    stage = fit._Stage(ScriptedNetwork([1.0, 2.0, 4.0]), plan)
    epoch = fit._epoch(stage, samples, samples, None)
    assert epoch.loss == pytest.approx((3 * 1.0 + 3 * 2.0 + 2 * 4.0) / 8)
    assert epoch.val_loss is None


class JudgedNetwork(ScriptedNetwork):
    """Gives the scripted score for the right class after each epoch; its weight is the epoch."""

    def __init__(self, sure: list[float]) -> None:
        super().__init__([1.0] * len(sure))
        self._sure = sure
        self.epoch = 0

    def train_on_batch(self, inputs: Any, labels: Any) -> float:
        self.epoch += 1
        return super().train_on_batch(inputs, labels)

    def predict_on_batch(self, inputs: Any) -> Any:
        sure = self._sure[self.epoch - 1]
        return np.tile(np.array([sure, 1 - sure], np.float32), (len(inputs), 1))

    def get_weights(self) -> list[int]:
        return [self.epoch]

    def set_weights(self, weights: list[int]) -> None:
        (self.epoch,) = weights


@pytest.mark.parametrize(
    ("validate_every", "sure", "epochs", "best"),
    [
        (1, [0.5, 0.7, 0.6, 0.65, 0.9, 0.9], 4, 2),
        (2, [0.1, 0.7, 0.1, 0.6, 0.1, 0.6, 0.1, 0.9], 6, 2),
        (1, [0.5, 0.7, 0.6, 0.8, 0.7, 0.9, 0.6, 0.7], 8, 6),
        (2, [0.1, 0.7, 0.8], 3, 3),  # the last epoch is always validated
    ],
)
def test_training_stops_early_and_restores_the_best_weights(
    monkeypatch: pytest.MonkeyPatch,
    validate_every: int,
    sure: list[float],
    epochs: int,
    best: int,
) -> None:
    monkeypatch.setattr(fit, "_compile", lambda *_: None)
    samples = Samples(lambda rows, _: rows.astype(np.float32), np.zeros(4, np.int64))
    plan = Plan("head", len(sure), 4, 0.5, patience=2, validate_every=validate_every, seed=1)
    network = JudgedNetwork(sure)
    history = fit.fit(network, samples, samples, plan)
    assert [epoch.number for epoch in history] == list(range(1, epochs + 1))
    assert network.epoch == best
    assert [epoch.number for epoch in history if epoch.is_best][-1] == best


def test_only_pictures_in_training_are_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_compile", lambda *_: None)
    rgb = np.random.default_rng(1).integers(0, 256, (70, 16, 16, 3)).astype(np.uint8)
    pictures = Pictures(rgb, np.zeros(70, np.int64), (), "", Path())
    plain = data.network_input(rgb)

    class Watching(JudgedNetwork):
        def train_on_batch(self, inputs: Any, labels: Any) -> float:
            known = [(plain == one).all(axis=(1, 2, 3)).any() for one in inputs]
            assert sum(known) < len(known) / 4
            return super().train_on_batch(inputs, labels)

        def predict_on_batch(self, inputs: Any) -> Any:
            self.validated = [*getattr(self, "validated", []), *inputs]
            return super().predict_on_batch(inputs)

    network = Watching([0.5])
    samples = train.pictures_samples(pictures)
    fit.fit(network, samples, samples, Plan("head", 1, 70, 0.5, 1, 1, 1))
    np.testing.assert_array_equal(network.validated, plain)


def test_certain_mistake_has_a_finite_loss() -> None:
    answers = np.array([[0, 1], [0, 1]], np.float32)
    found = fit.cross_entropy(answers, np.array([0, 1]))
    assert found == pytest.approx(-np.log(1e-7) / 2)
