"""Hyperparameter search for the head: Optuna's TPE with median pruning, stored in SQLite.

It trains on the frozen backbone's cached features, so a trial takes seconds. The median pruner
stops a trial whose validation loss is worse than the median of earlier ones at the same epoch.
Started again, a search continues: N counts all finished trials of the study.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from edge.errors import ConfigError, EdgeError
from tools.classifier import charts, fit, network, train, weights
from tools.classifier.description import Training
from tools.classifier.fit import Epoch, Samples
from tools.classifier.train import HEAD, Run
from tools.console import plain_console

logger = logging.getLogger(__name__)

LEARNING_RATES = (1e-4, 3e-2)
BATCHES = (16, 32, 64, 128)
DROPOUTS = (0.0, 0.6)
WIDTHS = (8, 16, 32, 64, 128, 256)
STARTUP_TRIALS = 5  # random trials before TPE and the pruner start
WARMUP_EPOCHS = 2
STUDY_FILE = "search.db"
TABLE_FILE = "search.csv"
PLOT_FILE = "search.png"
SETTINGS = ("learning_rate", "batch", "dropout", "width")


def search(loaded: Run, trials: int) -> Training:
    """Return the training settings with those of the best of `trials` finished trials.

    Raises ConfigError for random weights, which leave no frozen backbone to search on.
    """
    if loaded.training.weights == weights.RANDOM:
        raise ConfigError("--search needs a trained backbone; random weights (none) have no head")
    net = network.build(loaded.training, len(loaded.labels))
    sets = train.head_samples(loaded, net)
    study = _study(loaded)
    left = trials - len(finished(study))
    if left > 0:
        study.optimize(
            lambda trial: _value(trial, loaded, sets),
            n_trials=left,
            callbacks=[lambda study, _: _log_progress(study, trials)],
            catch=EdgeError,  # a trial that diverges
        )
    _report(study, loaded.folder)
    return msgspec.structs.replace(loaded.training, **study.best_params)


def finished(study: Any) -> list[Any]:
    """Return a study's completed and pruned trials, in order."""
    from optuna.trial import TrialState

    return list(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _log_progress(study: Any, trials: int) -> None:
    """Log the number of finished trials and the best loss."""
    losses = [trial.value for trial in finished(study)]
    best = min(losses, default=math.nan)
    logger.info("trial %d/%d done, best val_loss %.4f so far", len(losses), trials, best)


def _study(loaded: Run) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.create_study(
            study_name=_study_name(loaded),
            storage=f"sqlite:///{loaded.folder / STUDY_FILE}",
            sampler=optuna.samplers.TPESampler(seed=loaded.training.seed),
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS),
            load_if_exists=True,
        )


def _study_name(loaded: Run) -> str:
    """Return a study name that is unique to the data and the fixed settings."""
    settings = msgspec.json.encode(fixed(loaded.training)).decode()
    return f"{loaded.data_sha256[:16]} {settings}"[:500]


def fixed(training: Training) -> dict[str, Any]:
    """Return the settings that a search does not vary."""
    settings = msgspec.to_builtins(training)
    return {key: value for key, value in settings.items() if key not in SETTINGS}


def _value(trial: Any, loaded: Run, sets: tuple[Samples, Samples]) -> float:
    """Train a head with a trial's settings; return its best validation loss."""
    import optuna

    training = msgspec.structs.replace(
        loaded.training,
        learning_rate=trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
        batch=trial.suggest_categorical("batch", BATCHES),
        dropout=trial.suggest_float("dropout", *DROPOUTS),
        width=trial.suggest_categorical("width", WIDTHS),
    )

    def report(epoch: Epoch, _: fit.Floats) -> None:
        trial.report(float(epoch.val_loss or 0.0), epoch.number)
        trial.set_user_attr("val_accuracy", epoch.val_accuracy)
        if trial.should_prune():
            raise optuna.TrialPruned

    shape = sets[0].prepare(np.zeros(1, np.intp), None).shape[1:]
    net = network.build_head(training, shape, len(loaded.labels))
    history = fit.fit(net, *sets, train.plan(training, HEAD, None), report)
    return min(epoch.val_loss for epoch in history if epoch.val_loss is not None)


def _report(study: Any, folder: Path) -> None:
    """Print the trials, best first, and write them as CSV and as a plot."""
    done = sorted(finished(study), key=lambda trial: float(trial.value))
    heads = ("trial", "state", "val_loss", "val_accuracy", *SETTINGS)
    rows = [
        (
            str(trial.number),
            trial.state.name.lower(),
            f"{trial.value:.4f}",
            f"{trial.user_attrs.get('val_accuracy', float('nan')):.4f}",
            *(f"{trial.params[name]:.4g}" for name in SETTINGS),
        )
        for trial in done
    ]
    table = Table(*heads, title="Trials, best first")
    for row in rows:
        table.add_row(*row)
    plain_console(columns=120).print(table)
    text = "\n".join(",".join(row) for row in (heads, *rows))
    (folder / TABLE_FILE).write_text(text + "\n")
    charts.trials(done, SETTINGS, folder / PLOT_FILE)
