"""What a training stage reports about its epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from tools.classifier import fit
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
