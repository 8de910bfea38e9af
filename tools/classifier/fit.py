"""One stage of training: epochs with early stopping, best weights restored, resumable.

Started again with the same folder, a stage resumes after its last completed epoch and ends with the
same weights as an uninterrupted one: each epoch's order depends only on the seed and its number.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge import durable
from tools.classifier import runtime
from tools.classifier.description import write_json
from tools.progress import track
from tools.train.divergence import refuse_divergence

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
PREDICT_BATCH = 64
MIN_PROBABILITY = 1e-7  # Keras's floor in its cross entropy, so that losses compare
# Prepares a batch: row indices, random generator (None: no augmentation) -> network inputs.
Prepare = Callable[[NDArray[np.intp], np.random.Generator | None], Floats]


@dataclass(frozen=True)
class Samples:
    """The data of a stage. prepare: returns the inputs of some rows. labels: int64 (n,)."""

    prepare: Prepare
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How a stage trains; see `description.Training`.

    folder: where its state is saved; None: not saved, so the stage cannot be resumed.
    """

    name: str
    epochs: int
    batch: int
    learning_rate: float
    patience: int
    validate_every: int
    seed: int
    folder: Path | None = None


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one epoch; the last three only if it was validated.

    loss: mean training loss over the pictures, each measured as its batch was trained.
    """

    stage: str
    number: int
    loss: float
    learning_rate: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    is_best: bool = False


class State(msgspec.Struct, kw_only=True):
    """Progress of a stage. waited: validations since the best one."""

    history: list[Epoch] = []
    waited: int = 0
    finished: bool = False


Report = Callable[[Epoch, Floats], None]


@dataclass
class _Stage:
    """A network in training. best: its weights at the best validation so far."""

    network: Any
    plan: Plan
    state: State = field(default_factory=State)
    best: list[NDArray[Any]] | None = None

    def save(self) -> None:
        """Save weights, optimizer state and figures; the figures last, to mark completion."""
        if self.plan.folder is None:
            return
        number = len(self.state.history)
        _save(_variables(self.network), self._file(number))
        if self.best is not None and self.state.history[-1].is_best:
            _save(self.best, self._file("best"))
        write_json(self.plan.folder / f"{self.plan.name}.json", self.state)
        self._file(number - 1).unlink(missing_ok=True)

    def load(self) -> None:
        """Restore the last saved state, if there is one."""
        if self.plan.folder is None:
            return
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        note = self.plan.folder / f"{self.plan.name}.json"
        if not note.exists():
            return
        self.state = msgspec.json.decode(note.read_bytes(), type=State)
        if self._file("best").exists():
            self.best = _load(self._file("best"))
        stored = _load(self._file(len(self.state.history)))
        for variable, value in zip(_variables(self.network), stored, strict=True):
            variable.assign(value)

    def _file(self, mark: int | str) -> Path:
        assert self.plan.folder is not None  # noqa: S101 - only called where there is one
        return self.plan.folder / f"{self.plan.name}-{mark}.npz"


def fit(
    network: Any, train: Samples, validation: Samples, plan: Plan, report: Report | None = None
) -> list[Epoch]:
    """Train a network and leave it with its best weights; return the figures of all epochs.

    report: called after each validation with its figures and the probabilities (n, classes).
    Raises EdgeError when the training diverges.
    """
    _compile(network, plan, math.ceil(len(train.labels) / plan.batch))
    stage = _Stage(network, plan)
    stage.load()
    while not stage.state.finished:
        epoch = _epoch(stage, train, validation, report)
        stage.state.history.append(epoch)
        stage.state.finished = _is_over(stage.state, plan)
        stage.save()
        logger.info("%s", _line(epoch, plan))
    if stage.best is not None:
        network.set_weights(stage.best)
    return stage.state.history


def probabilities(network: Any, samples: Samples) -> Floats:
    """Return the predicted probabilities, float32 (n, classes)."""
    rows = np.arange(len(samples.labels))
    parts = [rows[at : at + PREDICT_BATCH] for at in range(0, len(rows), PREDICT_BATCH)]
    return np.concatenate([network.predict_on_batch(samples.prepare(some, None)) for some in parts])


def cross_entropy(answers: Floats, labels: NDArray[np.int64]) -> float:
    """Return the mean of -ln(probability of the label), floored at MIN_PROBABILITY."""
    right = np.clip(answers[np.arange(len(labels)), labels], MIN_PROBABILITY, 1)
    return float(-np.log(right).mean())


def accuracy(answers: Floats, labels: NDArray[np.int64]) -> float:
    """Return the share of rows whose most probable class is the label."""
    return float((answers.argmax(1) == labels).mean())


def _compile(network: Any, plan: Plan, steps: int) -> None:
    keras, _ = runtime.load()
    rate = keras.optimizers.schedules.CosineDecay(plan.learning_rate, max(1, plan.epochs * steps))
    network.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    network.optimizer.build(network.trainable_variables)


def _epoch(stage: _Stage, train: Samples, validation: Samples, report: Report | None) -> Epoch:
    """Train one epoch, and validate if due."""
    plan, network = stage.plan, stage.network
    number = len(stage.state.history) + 1
    total = 0.0
    for rows, generator in _batches(train, plan, number):
        network.reset_metrics()  # so that every Keras version returns this batch's loss
        inputs = train.prepare(rows, generator)
        total += len(rows) * float(network.train_on_batch(inputs, train.labels[rows]))
    loss = total / len(train.labels)
    refuse_divergence(loss, f"in {plan.name} epoch {number}")
    rate = float(network.optimizer.learning_rate)
    epoch = Epoch(stage=plan.name, number=number, loss=loss, learning_rate=rate)
    if number % plan.validate_every and number < plan.epochs:
        return epoch
    return _validate(stage, epoch, validation, report)


def _validate(stage: _Stage, epoch: Epoch, validation: Samples, report: Report | None) -> Epoch:
    answers = probabilities(stage.network, validation)
    loss = cross_entropy(answers, validation.labels)
    refuse_divergence(loss, f"after {epoch.stage} epoch {epoch.number}")
    known = [one.val_loss for one in stage.state.history if one.val_loss is not None]
    is_best = loss < min(known, default=math.inf)
    stage.state.waited = 0 if is_best else stage.state.waited + 1
    if is_best:
        stage.best = stage.network.get_weights()
    found = msgspec.structs.replace(
        epoch,
        val_loss=loss,
        val_accuracy=accuracy(answers, validation.labels),
        is_best=is_best,
    )
    if report is not None:
        report(found, answers)
    return found


def _batches(
    train: Samples, plan: Plan, number: int
) -> Iterator[tuple[NDArray[np.intp], np.random.Generator]]:
    generator = np.random.default_rng((plan.seed, number))
    order = generator.permutation(len(train.labels))
    starts = range(0, len(order), plan.batch)
    for at in track(starts, f"{plan.name}, epoch {number}"):
        yield np.sort(order[at : at + plan.batch]), generator


def _is_over(state: State, plan: Plan) -> bool:
    return len(state.history) >= plan.epochs or state.waited >= plan.patience


def _line(epoch: Epoch, plan: Plan) -> str:
    text = f"{epoch.stage} epoch {epoch.number}/{plan.epochs} loss {epoch.loss:.4f}"
    if epoch.val_loss is None:
        return text
    best = " best" if epoch.is_best else ""
    return f"{text} val_loss {epoch.val_loss:.4f} val_accuracy {epoch.val_accuracy:.4f}{best}"


def _variables(network: Any) -> list[Any]:
    """Return everything that training changes: weights, statistics, seeds, optimizer state."""
    return [*network.variables, *network.optimizer.variables]


def _save(values: Sequence[Any], path: Path) -> None:
    """Write arrays atomically, as .npz because the HDF5 library crashes on a full disk."""
    with durable.replacing(path) as file:
        np.savez(file, *(np.asarray(value) for value in values))


def _load(path: Path) -> list[NDArray[Any]]:
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]
