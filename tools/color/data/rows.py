"""Rows of the color data sets, and the target that a row's labels make.

A row of `color/labels.json` has `file_name`, `split`, `color` and `source`; those of
`scene_color/labels.json` and `more.json` are described in `label_file`. The labels of two labellers
make one soft target, weighted by how sure they were. A row that cannot be used raises an error with
its file and number: silently skipped, it would go unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge.color import TERMS
from edge.errors import InputError
from tools.color.data.labels import LABELS, MIXED
from tools.color.data.objects import Row, file_name, read_box

T = TypeVar("T")
BoxPx = tuple[float, float, float, float]
# Surface shares of the colors a labeller names, dominant first (README: each further color covers
# more than about 15 %); one row per number of colors named.
NAMED_SHARES = ((1.0,), (0.75, 0.25), (0.62, 0.23, 0.15))
MIXED_SHARES = ((1.0,), (0.55, 0.45), (0.4, 0.33, 0.27))
UNSURE_WEIGHT = 0.5
ONE_LABELLER_WEIGHT = 0.4  # the other labeller named no color
DISAGREED_WEIGHT = 0.6
# Too dark, blurred or hidden for both. Equal shares as targets (weight 0.25) were no better on
# validation, so these are left out.
UNCLEAR_WEIGHT = 0.0


@dataclass(frozen=True)
class Target:
    """The training target of a row; for the fields see `dataset.ColorItem`."""

    label: str | None
    shares: tuple[float, ...]
    weight: float
    is_sure: bool = False


def read(path: Path, make: Callable[[Row], T], split: str | None = None) -> list[T]:
    """Return `make(row)` for each row of a file, or for those of one split.

    make: raises KeyError, TypeError or ValueError for a broken row.
    Raises InputError when the file is no list of rows, and for a broken row.
    """
    found = []
    for number, row in enumerate(_rows(path), 1):
        try:
            if split is None or row["split"] == split:
                for key in row.keys() & {"image", "file_name"}:
                    file_name(row, key)
                found.append(make(row))
        except KeyError as error:
            raise InputError(f"{path}: row {number} has no {error}; add it") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: row {number}: {error}; correct it") from None
    return found


def _rows(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_bytes())
    except FileNotFoundError:
        inside = [one.parent.name for one in sorted(path.parent.glob(f"*/{path.name}"))]
        found = f", such as {path.parent / inside[0]}" if inside else ""
        raise InputError(f"{path} is missing; name its folder with --data{found}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name the data folder with --data") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); write it again") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f"{path}: not a list of labelled objects; name the data folder with --data"
        )
    return rows


def product(row: Row) -> Target:
    """Return the target of a product's row; ValueError when its color is no basic term."""
    color = row["color"]
    if color not in TERMS:
        raise ValueError(f"color {color!r} is none of {', '.join(TERMS)}")
    return Target(color, _spread([color], NAMED_SHARES), weight=1.0)


def scene(row: Row) -> Target:
    """Merge the labels of two labellers, or of the only one, into one soft target.

    Raises KeyError for a missing label and ValueError for one that is not in LABELS.
    """
    labellers = [number for number in ("1", "2") if f"label_{number}" in row] or ["1"]
    labels = {number: _checked(f"label_{number}", row[f"label_{number}"]) for number in labellers}
    agreed = row["agreed"] if len(labellers) == 2 else labels[labellers[0]]
    total, weights = np.zeros(len(TERMS)), []
    for number, label in labels.items():
        colors = row.get(f"colors_{number}") or [label]
        for color in colors:
            _checked(f"colors_{number}", color)
        shares = np.array(_spread(colors, MIXED_SHARES if label == MIXED else NAMED_SHARES))
        if shares.any():
            weights.append(1.0 if row[f"sure_{number}"] else UNSURE_WEIGHT)
            total += weights[-1] * shares
    return Target(
        label=agreed if agreed in TERMS else None,
        shares=tuple(total / total.sum() if weights else np.full(len(TERMS), 1 / len(TERMS))),
        weight=_weight(weights, len(labellers), is_agreed=agreed is not None),
        is_sure=all(row[f"sure_{number}"] for number in labellers),
    )


def _weight(weights: Sequence[float], labellers: int, *, is_agreed: bool) -> float:
    """Return a target's weight; weights: of the labellers that named a color."""
    if not weights:
        return UNCLEAR_WEIGHT
    mean = sum(weights) / labellers
    if len(weights) < labellers:
        return min(mean, ONE_LABELLER_WEIGHT)
    return mean if is_agreed else mean * DISAGREED_WEIGHT


def box_px(row: Row) -> BoxPx | None:
    """Return the row's box, None = the whole picture; ValueError when it is broken."""
    box = read_box(row["bbox"])
    return None if box is None else (box.x, box.y, box.width, box.height)


def _checked(key: str, value: object) -> str:
    if value not in LABELS:
        raise ValueError(f"{key} {value!r} is none of {', '.join(LABELS)}")
    return str(value)


def _spread(colors: Sequence[str], table: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return shares over TERMS for colors named dominant first; zeros when none is a term."""
    known = [color for color in colors if color in TERMS][: len(table)]
    shares = dict(zip(known, table[len(known) - 1], strict=True)) if known else {}
    return tuple(shares.get(term, 0.0) for term in TERMS)
