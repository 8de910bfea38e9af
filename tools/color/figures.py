"""Figures of a color model: accuracy, calibration, accuracy at a coverage, confusion.

top-1: the share of crops whose largest share is the label's, whatever its size. named: crops whose
largest share reaches the model's threshold. selective top-1: top-1 of the crops with the largest
shares, as many as the coverage takes. ECE: the expected calibration error, the mean gap between
largest share and accuracy in 15 bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.color import TERMS
from tools.color.data.dataset import ColorItem
from tools.plots import expected_calibration_error

ECE_BINS = 15
COVERAGE = 0.8
SMALLEST_SHARE = 1e-6  # an answer of 0 to what was named does not cost infinity


@dataclass(frozen=True)
class Answers:
    """A model's answers for n crops.

    shares: float64, (n, 11), in the order of TERMS. labels: int64, (n,), index into TERMS.
    sources: of each crop. stage_ms: float64, (n, stages).
    items: the crops; empty where only the figures matter.
    """

    shares: NDArray[np.float64]
    labels: NDArray[np.int64]
    sources: tuple[str, ...]
    stage_ms: NDArray[np.float64]
    items: tuple[ColorItem, ...] = ()


@dataclass(frozen=True)
class ColorFigures:
    """Figures of some crops; shares and rates 0..1.

    coverage: share of crops whose largest share reaches the threshold; named_top1: top-1 of those,
    None where there is none.
    selective_top1: top-1 of the crops with the largest shares.
    recall, precision: by term; None where there is no crop or no answer of it.
    confusion: labelled term -> answered term -> crops.
    """

    crops: int
    top1: float
    ece: float
    coverage: float
    named_top1: float | None
    selective_top1: float
    recall: dict[str, float | None]
    precision: dict[str, float | None]
    confusion: dict[str, dict[str, int]]

    def cells(self) -> list[str]:
        """Return top-1, the same at a coverage, ECE, named and accuracy of named, for a table."""
        rates = (self.top1, self.selective_top1, self.ece, self.coverage, self.named_top1)
        return ["-" if rate is None else f"{rate:.3f}" for rate in rates]


def select(answers: Answers, rows: NDArray[np.bool_]) -> Answers:
    """Return the answers about some crops; rows: bool, (n,)."""
    chosen = np.flatnonzero(rows)
    return Answers(
        answers.shares[chosen],
        answers.labels[chosen],
        tuple(answers.sources[row] for row in chosen),
        answers.stage_ms[chosen],
        tuple(answers.items[row] for row in chosen) if answers.items else (),
    )


def only(answers: Answers, *sources: str) -> Answers:
    """Return the answers about the crops of some sources."""
    return select(answers, np.array([name in sources for name in answers.sources], bool))


def by_set(answers: Answers) -> dict[str, Answers]:
    """Return the answers by data set, `color` and `scene_color`; only the sets that have crops."""
    scenes = np.array([name == "scene" for name in answers.sources], bool)
    rows = {"color": ~scenes, "scene_color": scenes}
    return {name: select(answers, some) for name, some in rows.items() if some.any()}


def groups(answers: Answers) -> dict[str, Answers]:
    """Return the answers by source, and those on scene objects that all labellers were sure of."""
    found = {source: only(answers, source) for source in sorted(set(answers.sources))}
    sure = [item.source == "scene" and item.is_sure for item in answers.items]
    if any(sure):
        found["scene, sure"] = select(answers, np.array(sure))
    return found


def by_class(answers: Answers) -> dict[str, Answers]:
    """Return the answers by the object's class, where it is known."""
    names = [item.object_class for item in answers.items]
    known = sorted({name for name in names if name is not None})
    return {one: select(answers, np.array([name == one for name in names])) for one in known}


def figures(answers: Answers, unknown_below: float, coverage: float = COVERAGE) -> ColorFigures:
    """Return the figures of some answers.

    unknown_below: the model's threshold for `named`.
    coverage: share of the crops, those with the largest shares, that `selective_top1` is of.
    """
    guesses, tops = answers.shares.argmax(1), answers.shares.max(1)
    hits = guesses == answers.labels
    counts = np.zeros((len(TERMS), len(TERMS)), int)
    np.add.at(counts, (answers.labels, guesses), 1)
    named = tops >= unknown_below
    return ColorFigures(
        crops=len(hits),
        top1=float(hits.mean()),
        ece=expected_calibration_error(tops, hits, ECE_BINS),
        coverage=float(named.mean()),
        named_top1=float(hits[named].mean()) if named.any() else None,
        selective_top1=selective_top1(tops, hits, coverage),
        recall=_ratios(counts.diagonal(), counts.sum(1)),
        precision=_ratios(counts.diagonal(), counts.sum(0)),
        confusion={
            term: {TERMS[column]: int(row[column]) for column in np.flatnonzero(row)}
            for term, row in zip(TERMS, counts, strict=True)
        },
    )


def cross_entropy(items: Sequence[ColorItem], shares: NDArray[np.float64]) -> float:
    """Return the mean cross entropy of answers against the labellers' shares, in nats.

    items: n crops, weighted by the trust in their targets. shares: (n, 11), the model's.
    """
    targets = np.array([item.shares for item in items])
    losses = -(targets * np.log(np.maximum(shares, SMALLEST_SHARE))).sum(1)
    return float(np.average(losses, weights=[item.weight for item in items]))


def selective_top1(tops: NDArray[np.float64], hits: NDArray[np.bool_], coverage: float) -> float:
    """Return top-1 of the crops with the largest shares.

    tops: largest share of each crop. hits: whether it is the label's. coverage: 0..1 of the crops.

    Source: Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, 2017.
    """
    kept = max(1, round(coverage * len(tops)))
    return float(hits[np.argsort(-tops, kind="stable")[:kept]].mean())


def _ratios(parts: NDArray[np.int_], wholes: NDArray[np.int_]) -> dict[str, float | None]:
    return {
        term: float(part / whole) if whole else None
        for term, part, whole in zip(TERMS, parts, wholes, strict=True)
    }


def label_indices(items: Sequence[ColorItem]) -> NDArray[np.int64]:
    """Return each item's label as an index into TERMS; ValueError where one has none."""
    return np.array([TERMS.index(str(item.label)) for item in items], np.int64)
