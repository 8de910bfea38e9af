"""A classifier's description: `classifier.json` beside the model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from edge import durable
from edge.errors import ModelError

FILE = "classifier.json"
KERAS_FILE = "model.keras"
TFLITE_FILE = "model.tflite"

Level = Literal["NQ", "TL", "F16", "DR", "FF", "IO"]


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a training run.

    backbone: a name from `network.backbones()`. alpha: MobileNet's width multiplier.
    weights: `imagenet`, `none` (random) or a file. pooling: `average` gives the head the global
    average of the last feature map; `positions` applies the head's neurons at each position of it,
    as Edge Impulse's head does. width: neurons of the dense layer; 0: no such layer. dropout: 0..1.
    learning_rate: of Adam at the start; cosine decay to zero.
    patience: validations without a better loss until training stops.
    fine_tune_layers: number of the backbone's last layers to train after the head; -1: all.
    """

    backbone: str = "MobileNetV2"
    alpha: float = 1.0
    side_px: int = 96
    weights: str = "imagenet"
    pooling: Literal["average", "positions"] = "average"
    width: int = 64
    dropout: float = 0.1
    learning_rate: float = 1e-3
    batch: int = 32
    epochs: int = 50
    patience: int = 8
    validate_every: int = 1
    fine_tune_layers: int = 0
    fine_tune_epochs: int = 10
    fine_tune_rate: float = 1e-4
    seed: int = 1


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Description of the classifier in a folder.

    labels: in the order of the outputs. parameters: number of weights and biases. level: of
    conversion, see `convert`. notes: free text by topic (pruning, calibration, …).
    """

    labels: tuple[str, ...]
    side_px: int
    backbone: str
    parameters: int
    level: Level
    file: str
    train_sha256: str
    training: Training
    notes: dict[str, str] = {}


def read(folder: Path) -> Description:
    """Return the description of a classifier's folder.

    Raises ModelError when it is missing or not valid.
    """
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Description)
    except OSError as error:
        raise ModelError(
            f"classifier {folder}: {FILE}: {error.strerror}; "
            "name a folder that edge-tools train classifier wrote"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"classifier {folder}: {FILE} is not valid: {error}") from None


def write(folder: Path, described: Description) -> None:
    """Write the description into the folder, creating it if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, described)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    durable.replace(path, text + b"\n")
