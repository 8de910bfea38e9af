"""Records measured figures in an integer-only folder's manifest and card, for `validate`.

The float network's accuracy in the same measurement is recorded as `top-1 float`;
`validate --max-drop` compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.errors import InputError
from edge.manifest import MANIFEST_NAME, Accuracy
from tools import package
from tools.classifier.figures import Figures

METRIC = "top-1"
COMMAND = "edge-tools evaluate {model} --record"
_PART = """\
`edge-tools evaluate classifier`, {pictures:,} pictures of {dataset}, one at a time on one machine:

| | loss | accuracy | p50 ms | MB |
|---|---|---|---|---|
{rows}"""
FLOAT_LEVELS = ("NQ", "TL")


def write(found: Sequence[Figures], dataset: str) -> None:
    """Store the figures in every measured folder that is a model folder.

    dataset: its name and split. Raises InputError if none of them has a manifest.
    """
    folders = [one for one in found if (Path(one.model) / MANIFEST_NAME).is_file()]
    if not folders:
        raise InputError("--record: none of the models has a manifest; measure level IO, too")
    original = next((one for one in found if one.level in FLOAT_LEVELS), None)
    for one in folders:
        package.record(
            Path(one.model), _accuracy(one, original, dataset), _part(one, original, dataset)
        )
        print(f"{one.model}: figures recorded in manifest and card")


def _accuracy(one: Figures, original: Figures | None, dataset: str) -> tuple[Accuracy, ...]:
    values = {METRIC: one.accuracy, "loss": one.loss, "agreement": one.agreement}
    if original is not None:
        values[f"{METRIC} float"] = original.accuracy
    levels = Path(*Path(one.model).resolve().parent.parts[-2:])  # not this machine's whole path
    command = COMMAND.format(model=levels.as_posix())
    return tuple(
        Accuracy(dataset=dataset, metric=metric, value=value, command=command)
        for metric, value in values.items()
    )


def _part(one: Figures, original: Figures | None, dataset: str) -> str:
    rows = [
        f"| {row.level} | {row.loss:.3f} | {row.accuracy:.4f} | {row.p50_ms:.2f} "
        f"| {row.file_bytes / 1e6:.2f} |"
        for row in (original, one)
        if row is not None
    ]
    return _PART.format(pictures=one.pictures, dataset=dataset, rows="\n".join(rows))
