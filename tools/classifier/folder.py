"""Makes an integer-only classifier's folder a model folder: manifest, card, golden picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge import picture_file
from edge.manifest import Decoder, Golden
from tools import package
from tools.classifier.data import Pixels
from tools.classifier.description import Description, Training
from tools.classifier.tflite import TFLiteClassifier

VERSION = "0.1.0"
GOLDEN_FILE = "golden.png"
GOLDEN_TOLERANCE = 0.05  # kernels round differently; see tools/README.md

_CARD = """\
# {name}
Classifies a picture: {labels}.
{parameters:,} parameters, {side}x{side} RGB int8 input (the picture stretched), probabilities as
int8; all tensors are integers.

## Training
{training}
## Figures
{begin}
Not measured yet: `edge-tools evaluate LEVELS --record` fills this part.
{end}

## Licence
Depends on the training pictures and the backbone's weights; state it here.
"""


def complete(target: Path, described: Description, picture: Pixels) -> None:
    """Write manifest.json, CARD.md and the golden picture beside `model.tflite`.

    picture: uint8, (side, side, 3), RGB; stored with the file's predictions for it.
    Raises ModelError when the file is not integer-only.
    """
    path = target / package.MODEL_FILE
    picture_file.write(target / GOLDEN_FILE, np.ascontiguousarray(picture[..., ::-1]))
    answers = TFLiteClassifier(path).probabilities(picture)
    shares = dict(zip(described.labels, (round(float(one), 4) for one in answers), strict=True))
    golden = Golden(file=GOLDEN_FILE, tolerance=GOLDEN_TOLERANCE, shares=shares)
    package.write_folder(target, path, _facts(target, described, golden))
    (target / package.CARD_FILE).write_text(_card(target, described))


def _facts(target: Path, described: Description, golden: Golden) -> package.Facts:
    return package.Facts(
        name=_name(target),
        version=VERSION,
        task="classify",
        image={"color_order": "rgb", "resize": "stretch", "range": "-1..1"},
        decoder=Decoder(name="probabilities"),
        labels=described.labels,
        parameters=described.parameters,
        training=_training(described),
        licence="not stated",
        golden=golden,
    )


def _name(target: Path) -> str:
    """Return the model's name: that of the run's folder, ignoring `levels/IO`."""
    parts = [part for part in target.resolve().parts if part not in {"IO", "levels"}]
    return parts[-1]


def _training(described: Description) -> dict[str, str]:
    training: Training = described.training
    return {
        "backbone": f"{described.backbone}, width {training.alpha:g}, weights {training.weights}",
        "run": f"Adam {training.learning_rate:g}, batch {training.batch}, seed {training.seed}",
        "data": f"training pictures and labels, sha256 {described.train_sha256}",
    } | described.notes


def _card(target: Path, described: Description) -> str:
    return _CARD.format(
        name=_name(target),
        labels=", ".join(described.labels),
        parameters=described.parameters,
        side=described.side_px,
        training="".join(f"- {key}: {text}\n" for key, text in _training(described).items()),
        begin=package.TABLE_BEGIN,
        end=package.TABLE_END,
    )
