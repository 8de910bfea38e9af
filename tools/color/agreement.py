"""How far two labellers of colors, people or machines, agree: share, Cohen's kappa, confusion.

Kappa is the agreement beyond chance: 1 for identical labels, 0 for what two labellers with the same
label frequencies would reach by chance (Cohen 1960, computed by scikit-learn). A row that two
people labelled counts as their common label; where they differ, the row is left out of the
comparison with a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS
from tools.color.data.labels import LABELS
from tools.color.data.objects import Row


@dataclass(frozen=True)
class Agreement:
    """Agreement on a number of objects.

    share: of objects with the same label, 0..1. kappa: None when all labels are the same one.
    """

    objects: int
    share: float
    kappa: float | None


@dataclass(frozen=True)
class Pair:
    """Two labels of one object; is_sure: whether the first and the second labeller were sure."""

    first: str
    second: str
    is_sure: tuple[bool, bool]


GROUPS: dict[str, Callable[[Pair], bool]] = {
    "all": lambda _: True,
    "one basic term": lambda pair: pair.first in TERMS,
    "person sure": lambda pair: pair.is_sure[0],
    "person not sure": lambda pair: not pair.is_sure[0],
    "machine sure": lambda pair: pair.is_sure[1],
    "machine not sure": lambda pair: not pair.is_sure[1],
    "both sure": lambda pair: all(pair.is_sure),
}


def human_answer(row: Row) -> tuple[str, bool] | None:
    """Return the label that people gave an object, and whether all were sure.

    None where two people differ or nobody labelled it.
    """
    if "label_1" in row and "label_2" in row:
        sure = bool(row.get("sure_1", True) and row.get("sure_2", True))
        return (row["label_1"], sure) if row["label_1"] == row["label_2"] else None
    for number in ("1", "2"):
        if f"label_{number}" in row:
            return row[f"label_{number}"], bool(row.get(f"sure_{number}", True))
    return None


def by_group(pairs: Sequence[Pair]) -> dict[str, Agreement]:
    """Return the agreement of all pairs, and of each group in GROUPS that is not empty."""
    chosen = {name: [pair for pair in pairs if test(pair)] for name, test in GROUPS.items()}
    return {name: agreement(kept) for name, kept in chosen.items() if kept}


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Return the agreement of some pairs, at least one."""
    from sklearn.metrics import cohen_kappa_score

    first, second = [pair.first for pair in pairs], [pair.second for pair in pairs]
    kappa = cohen_kappa_score(first, second) if len({*first, *second}) > 1 else None
    share = sum(pair.first == pair.second for pair in pairs) / len(pairs)
    return Agreement(len(pairs), share, None if kappa is None else float(kappa))


def confusion(pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """Return the number of pairs by first label (rows) and second (columns), as in LABELS."""
    counts = np.zeros((len(LABELS), len(LABELS)), np.int64)
    for pair in pairs:
        counts[LABELS.index(pair.first), LABELS.index(pair.second)] += 1
    return counts
