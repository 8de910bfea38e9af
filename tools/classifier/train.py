"""Trains a classifier on class folders: `edge-tools train classifier DATASET --output runs/birds`.

The head is trained on the frozen backbone's cached features; then, on request, the backbone's last
layers are fine-tuned at a low learning rate. With random weights everything is trained at once on
augmented pictures. Validation pictures select epochs and trials and are never trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tools import tracking
from tools.arguments import count, count_or_zero, model_folder, option, positive, seed, share
from tools.classifier import (
    claim,
    data,
    description,
    features,
    fit,
    network,
    runtime,
    samples,
    source,
    weights,
)
from tools.classifier.augment import augment
from tools.classifier.data import Pictures
from tools.classifier.description import Training
from tools.classifier.fit import Epoch, Plan, Samples

EXAMPLES = """\
examples:
  edge-tools train classifier DATASET --backbone EfficientNetLite0 --output runs/birds
  edge-tools train classifier DATASET --backbone MobileNetV2 --alpha 0.35 --side 96 \\
      --pooling positions --width 8 --weights mobilenet_v2_..._0.35_96_no_top.h5
  edge-tools train classifier DATASET --search 40        # then trains with the best it found
  edge-tools train classifier DATASET --weights none --epochs 60    # from random weights
DATASET holds a folder of pictures for each class, or folders train, val, test of such.
Started again with the same output folder, it resumes where it stopped.
"""
logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
SAMPLES = "samples"  # folder of sheets with sample predictions
KEPT_FILES = (  # artifacts for the experiment tracker, if they exist
    description.FILE,
    description.KERAS_FILE,
    METRICS_FILE,
    "search.csv",
    "search.png",
)
HEAD, FINE_TUNE, WHOLE = "head", "fine-tune", "network"


@dataclass(frozen=True)
class Run:
    """A run's data and folder."""

    training: Training
    labels: tuple[str, ...]
    train: Pictures
    validation: Pictures
    folder: Path

    @property
    def data_sha256(self) -> str:
        """Return a hash of the pictures, their labels and the class names."""
        text = f"{self.train.sha256} {self.validation.sha256} {'/'.join(self.labels)}"
        return hashlib.sha256(text.encode()).hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    default = Training()
    parser.add_argument("dataset", type=Path, help="class folders, or train/, val/, test/ of them")
    option(
        parser, "--output", model_folder, Path("runs/classifier"), "run folder, named as the model"
    )
    option(parser, "--backbone", str, default.backbone, "name in keras.applications")
    option(parser, "--alpha", positive, default.alpha, "MobileNet's width")
    option(
        parser,
        "--side",
        count,
        default.side_px,
        "of the input, pixels",
        dest="side_px",
        metavar="PX",
    )
    option(parser, "--weights", str, default.weights, "imagenet, none or a file")
    parser.add_argument(
        "--pooling",
        choices=("average", "positions"),
        default=default.pooling,
        help="the head's input: average of the last feature map, or each of its positions; "
        "default: %(default)s",
    )
    option(
        parser,
        "--width",
        count_or_zero,
        default.width,
        "neurons of the head's dense layer, 0: no such layer",
    )
    option(parser, "--dropout", share, default.dropout, "share, before the last layer")
    option(
        parser,
        "--learning-rate",
        positive,
        default.learning_rate,
        "at the start, with cosine decay",
    )
    option(parser, "--batch", count, default.batch, "pictures per step")
    option(parser, "--epochs", count, default.epochs, "at most")
    option(parser, "--patience", count, default.patience, "of early stopping")
    option(parser, "--validate-every", count, default.validate_every, "epochs", metavar="N")
    option(parser, "--seed", seed, default.seed, "of weights, order and augmentation")
    _add_fine_tuning(parser, default)
    parser.add_argument("--search", type=count, metavar="N", help="first search in N trials")
    option(parser, "--threads", count, 1, "CPU threads of TensorFlow")
    tracking.add_argument(parser)


def _add_fine_tuning(parser: argparse.ArgumentParser, default: Training) -> None:
    option(
        parser,
        "--fine-tune-layers",
        int,
        default.fine_tune_layers,
        "then fine-tune the backbone's last N layers, too; -1: all",
        metavar="N",
    )
    option(parser, "--fine-tune-epochs", count, default.fine_tune_epochs, "at most")
    option(
        parser, "--fine-tune-rate", positive, default.fine_tune_rate, "learning rate at the start"
    )


def run(args: argparse.Namespace) -> int:
    """Train and write `model.keras` and `classifier.json` into the output folder."""
    names = [field.name for field in msgspec.structs.fields(Training)]
    training = Training(**{name: getattr(args, name) for name in names})
    runtime.use_threads(args.threads)
    if args.search:
        training = _searched(args, training)
    claim.refuse_other_run(args.output, training)
    loaded = open_run(args.dataset, training, args.output)
    source.remember(args.output, args.dataset)
    train(loaded, args.tracking_uri)
    return 0


def open_run(dataset: Path, training: Training, folder: Path) -> Run:
    """Read the pictures and return the run.

    Raises InputError when they cannot be read, or when the folder holds a run on others.
    """
    labels = data.class_names(dataset)
    cache = folder / "cache"
    train_set, validation = (
        data.pack(dataset, split, labels, training.side_px, cache) for split in ("train", "val")
    )
    print(
        f"{len(labels)} classes, {len(train_set.labels)} pictures to train, "
        f"{len(validation.labels)} to validate"
    )
    opened = Run(training, labels, train_set, validation, folder)
    claim.refuse_other_data(folder, opened.data_sha256)
    return opened


def train(loaded: Run, tracking_uri: str | None = None) -> Path:
    """Train all stages of a run; return the folder with `model.keras` and its description."""
    parameters = msgspec.to_builtins(loaded.training) | {"data_sha256": loaded.train.sha256}
    with tracking.start(
        "classifier", params=parameters, uri=tracking_uri, folder=loaded.folder
    ) as record:
        net = network.build(loaded.training, len(loaded.labels))
        claim.claim(loaded.folder, loaded.training, loaded.data_sha256)
        began_s = time.monotonic()
        history = _train_stages(loaded, net)
        _write(loaded, net, history)
        _track(record, history, loaded.folder)
    best = _best(history)
    print(
        f"{loaded.folder / description.KERAS_FILE}: val_accuracy {best.val_accuracy:.4f}, "
        f"{network.parameters(net):,} parameters, {time.monotonic() - began_s:.0f} s"
    )
    return loaded.folder


def _train_stages(loaded: Run, net: Any) -> list[Epoch]:
    """Train the head, then on request the backbone's last layers; or everything at once."""
    report = _reporter(loaded)
    if loaded.training.weights == weights.RANDOM:
        return _train_whole(loaded, net, report)
    history = _train_head(loaded, net, report)
    if loaded.training.fine_tune_layers:
        history += _fine_tune(loaded, net, report, _best(history))
    return history


def pictures_samples(pictures: Pictures) -> Samples:
    """Return the pictures as samples, augmented when a generator is passed."""

    def prepare(rows: NDArray[np.intp], generator: np.random.Generator | None) -> fit.Floats:
        rgb = np.asarray(pictures.rgb[rows])
        return data.network_input(rgb if generator is None else augment(rgb, generator))

    return Samples(prepare, pictures.labels)


def head_samples(loaded: Run, net: Any) -> tuple[Samples, Samples]:
    """Return the head's inputs for training and validation pictures."""
    frozen = network.features_network(net, pooled=loaded.training.pooling == "average")
    cache = loaded.folder / "cache"
    train_set, validation = (
        features.cached(frozen, pictures, cache) for pictures in (loaded.train, loaded.validation)
    )
    return train_set, validation


def plan(training: Training, stage: str, folder: Path | None) -> Plan:
    """Return the plan of a training stage. folder: see `Plan`."""
    fine = stage == FINE_TUNE
    return Plan(
        name=stage,
        epochs=training.fine_tune_epochs if fine else training.epochs,
        batch=training.batch,
        learning_rate=training.fine_tune_rate if fine else training.learning_rate,
        patience=training.patience,
        validate_every=training.validate_every,
        seed=training.seed,
        folder=folder,
    )


def _train_head(loaded: Run, net: Any, report: fit.Report) -> list[Epoch]:
    train_set, validation = head_samples(loaded, net)
    head = network.part(net, network.HEAD)
    stage = plan(loaded.training, HEAD, loaded.folder / claim.STATE)
    return fit.fit(head, train_set, validation, stage, report)


def _fine_tune(loaded: Run, net: Any, report: fit.Report, before: Epoch) -> list[Epoch]:
    """Train the backbone's last layers and the head; batch statistics stay frozen.

    before: the head's best epoch, whose weights are restored if fine-tuning does not improve them.
    """
    keras, _ = runtime.load()
    backbone = network.part(net, network.BACKBONE)
    count = loaded.training.fine_tune_layers
    for layer in backbone.layers:
        layer.trainable = False
    for layer in backbone.layers if count < 0 else backbone.layers[-count:]:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    kept = net.get_weights()
    stage = plan(loaded.training, FINE_TUNE, loaded.folder / claim.STATE)
    sets = pictures_samples(loaded.train), pictures_samples(loaded.validation)
    history = fit.fit(net, *sets, stage, report)
    if _val_loss(_best(history)) > _val_loss(before):
        net.set_weights(kept)
        logger.info("fine-tuning brought nothing better: the head's best epoch stays")
    return history


def _train_whole(loaded: Run, net: Any, report: fit.Report) -> list[Epoch]:
    stage = plan(loaded.training, WHOLE, loaded.folder / claim.STATE)
    sets = pictures_samples(loaded.train), pictures_samples(loaded.validation)
    return fit.fit(net, *sets, stage, report)


def _searched(args: argparse.Namespace, training: Training) -> Training:
    from tools.classifier import search

    loaded = open_run(args.dataset, training, args.output)
    found = search.search(loaded, args.search)
    before = claim.stored_settings(args.output)
    if before is not None and before != found and search.fixed(before) == search.fixed(found):
        print(f"better settings found: {claim.difference(found, before)}; retraining the head")
        claim.discard_state(args.output)
    return found


def _reporter(loaded: Run) -> Callable[[Epoch, fit.Floats], None]:
    def report(epoch: Epoch, answers: fit.Floats) -> None:
        path = loaded.folder / SAMPLES / f"{epoch.stage}-{epoch.number:03}.jpg"
        samples.write(loaded.validation, loaded.labels, answers, path)

    return report


def _best(history: list[Epoch]) -> Epoch:
    return min(history, key=_val_loss)


def _val_loss(epoch: Epoch) -> float:
    return float("inf") if epoch.val_loss is None else epoch.val_loss


def _write(loaded: Run, net: Any, history: list[Epoch]) -> None:
    network.save(net, loaded.folder / description.KERAS_FILE)
    lines = [msgspec.json.encode(epoch) for epoch in history]
    (loaded.folder / METRICS_FILE).write_bytes(b"\n".join(lines) + b"\n")
    described = description.Description(
        labels=loaded.labels,
        side_px=loaded.training.side_px,
        backbone=loaded.training.backbone,
        parameters=network.parameters(net),
        level="NQ",
        file=description.KERAS_FILE,
        train_sha256=loaded.train.sha256,
        training=loaded.training,
    )
    description.write(loaded.folder, described)


def _track(record: tracking.Run, history: list[Epoch], folder: Path) -> None:
    """Record curves, model and other files of the run in the experiment tracker."""
    for step, epoch in enumerate(history, 1):
        figures = {"loss": epoch.loss, "learning_rate": epoch.learning_rate}
        if epoch.val_loss is not None and epoch.val_accuracy is not None:
            figures |= {"val_loss": epoch.val_loss, "val_accuracy": epoch.val_accuracy}
        record.metrics(step, **figures)
    sheets = sorted((folder / SAMPLES).glob("*.jpg"))
    files = (folder / name for name in KEPT_FILES)
    for path in (*files, *sheets[-1:]):
        if path.exists():
            record.artifact(path)
