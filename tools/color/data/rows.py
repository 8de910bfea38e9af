"""Rows of the color data sets, and the target that a row's labels make.

A row of `color/labels.json` has `file_name`, `split`, `color` and `source`; those of
`scene_color/labels.json` and `more.json` are what `label_file` describes. Two labellers become one
soft target, weighed by how sure they were. A row that cannot be used is an error that names its
file and number: left out, it would be missed by nobody.
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
from tools.color.data.label_file import Row, read_box
from tools.color.data.labels import LABELS, MIXED

T = TypeVar("T")
BoxPx = tuple[float, float, float, float]
# Surface shares of the colors a labeller names, dominant first (README: each further color covers
# more than about 15 %); one row per number of colors named.
NAMED_SHARES = ((1.0,), (0.75, 0.25), (0.62, 0.23, 0.15))
MIXED_SHARES = ((1.0,), (0.55, 0.45), (0.4, 0.33, 0.27))
UNSURE_WEIGHT = 0.5
ONE_LABELLER_WEIGHT = 0.4  # the other found no color, or none that leads
DISAGREED_WEIGHT = 0.6
# Too dark, blurred or hidden for both. A run that learned to spread its shares on these (weight
# 0.25) was no better on validation, so they are left out.
UNCLEAR_WEIGHT = 0.0


@dataclass(frozen=True)
class Target:
    """What a row's labels say; see `tools.color.data.dataset.ColorItem`."""

    label: str | None
    shares: tuple[float, ...]
    weight: float
    is_sure: bool = False


def read(path: Path, make: Callable[[Row], T], split: str | None = None) -> list[T]:
    """Return what `make` makes of each row of a file, of those of a split where one is named.

    Raises InputError where there is no list of rows, and for a row of which nothing can be made.
    """
    found = []
    for number, row in enumerate(_rows(path), 1):
        try:
            if split is None or row["split"] == split:
                found.append(make(row))
        except KeyError as error:
            raise InputError(f"{path}: row {number} has no {error}; add it") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: row {number}: {error}; mend it") from None
    return found


def _rows(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing; name the data folder with --data") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name the data folder with --data") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); write it anew") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f"{path}: not a list of labelled objects; name the data folder with --data"
        )
    return rows


def product(row: Row) -> Target:
    """Return the target of a product's row; ValueError for what is no basic color term."""
    color = row["color"]
    if color not in TERMS:
        raise ValueError(f"color {color!r} is none of {', '.join(TERMS)}")
    return Target(color, _spread([color], NAMED_SHARES), weight=1.0)


def scene(row: Row) -> Target:
    """Merge the answers of two labellers, or of the only one, into one soft target.

    KeyError, ValueError where an answer is missing or none that labellers may give.
    """
    total = np.zeros(len(TERMS))
    trust = []
    labellers = [number for number in ("1", "2") if f"label_{number}" in row] or ["1"]
    said = {number: _answer(f"label_{number}", row[f"label_{number}"]) for number in labellers}
    agreed = row["agreed"] if len(labellers) == 2 else said[labellers[0]]
    for number, label in said.items():
        colors = row.get(f"colors_{number}") or [label]
        for color in colors:
            _answer(f"colors_{number}", color)
        shares = np.array(_spread(colors, MIXED_SHARES if label == MIXED else NAMED_SHARES))
        if shares.any():
            weight = 1.0 if row[f"sure_{number}"] else UNSURE_WEIGHT
            total += weight * shares
            trust.append(weight)
    weight = sum(trust) / len(labellers)
    if len(trust) == 1 and len(labellers) == 2:
        weight = min(weight, ONE_LABELLER_WEIGHT)
    elif not trust:
        total += 1
        weight = UNCLEAR_WEIGHT
    elif agreed is None:
        weight *= DISAGREED_WEIGHT
    return Target(
        label=agreed if agreed in TERMS else None,
        shares=tuple(total / total.sum()),
        weight=weight,
        is_sure=all(row[f"sure_{number}"] for number in labellers),
    )


def box_px(row: Row) -> BoxPx | None:
    """Return where the object is in its picture, None = all of it; ValueError for no box."""
    box = read_box(row["bbox"])
    return None if box is None else (box.x, box.y, box.width, box.height)


def _answer(key: str, value: object) -> str:
    if value not in LABELS:
        raise ValueError(f"{key} {value!r} is none of {', '.join(LABELS)}")
    return str(value)


def _spread(colors: Sequence[str], table: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return shares over TERMS for colors named dominant first; zeros when none is a term."""
    known = [color for color in colors if color in TERMS][: len(table)]
    shares = dict(zip(known, table[len(known) - 1], strict=True)) if known else {}
    return tuple(shares.get(term, 0.0) for term in TERMS)
