"""A contact sheet of a detector's best hits and worst errors on any data set.

Annotated boxes are green, detected ones blue (right) or red (wrong).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.values import Box, Image
from tools import contact_sheet, dataset
from tools.contact_sheet import Tile, TileBox
from tools.dataset import Dataset
from tools.evaluate.confusion import Match

GREEN, BLUE, RED = (80, 200, 60), (230, 130, 30), (50, 50, 230)  # BGR
MARGIN = 0.6  # of the object's larger side, around it
MIN_SIDE_PX = 96
SHOWN = 24  # at most so many hits, and as many errors


def write(found: Sequence[Match], data: Dataset, path: Path) -> None:
    """Write the best hits, then the worst errors, as one JPEG; nothing if there are none.

    found: all matches of a set.
    Raises InputError when a picture cannot be read, EdgeError when the file cannot be written.
    """
    hits, errors = choose(found, SHOWN)
    if hits or errors:
        contact_sheet.write([tile(match, data) for match in (*hits, *errors)], path)


def choose(found: Sequence[Match], count: int) -> tuple[list[Match], list[Match]]:
    """Return the best hits and the worst errors, at most `count` of each.

    Hits are ordered by score, taken from the labels in turn. Errors are taken in turn from missed
    objects (largest first), wrong labels and false alarms (highest score first).
    """
    hits = sorted((match for match in found if match.is_hit), key=lambda match: -_score(match))
    by_label: dict[int, list[Match]] = {}
    for match in hits:
        by_label.setdefault(Match.label_of(match.truth), []).append(match)
    errors = [match for match in found if not match.is_hit]
    missed = [match for match in errors if match.found is None]
    alarms = [match for match in errors if match.truth is None]
    confused = [match for match in errors if None not in (match.found, match.truth)]
    queues = [
        sorted(missed, key=lambda match: -_area(match)),
        sorted(confused, key=lambda match: -_score(match)),
        sorted(alarms, key=lambda match: -_score(match)),
    ]
    return _round_robin(list(by_label.values()), count), _round_robin(queues, count)


def _round_robin(queues: list[list[Match]], count: int) -> list[Match]:
    """Return the first of each queue, then the second of each, and so on."""
    longest = max(map(len, queues), default=0)
    taken = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return taken[:count]


def _score(match: Match) -> float:
    return float(match.found["score"]) if match.found else 0.0


def _area(match: Match) -> float:
    return float(match.truth["bbox"][2] * match.truth["bbox"][3]) if match.truth else 0.0


def tile(match: Match, data: Dataset) -> Tile:
    """Return the picture around a match, with its boxes.

    Raises InputError when the picture cannot be read.
    """
    boxes = [Box(*item["bbox"]) for item in (match.truth, match.found) if item]
    left, top, part = _around(dataset.load(match.picture), boxes)
    verdict = BLUE if match.is_hit else RED
    drawn = tuple(
        _drawn(Box(*item["bbox"]), (left, top), color)
        for item, color in ((match.truth, GREEN), (match.found, verdict))
        if item
    )
    return Tile(part, _caption(match, data), drawn)


def _drawn(box: Box, offset: tuple[int, int], color: tuple[int, int, int]) -> TileBox:
    return TileBox(box.x - offset[0], box.y - offset[1], box.width, box.height, color=color)


def _around(bgr: Image, boxes: Sequence[Box]) -> tuple[int, int, Image]:
    """Return left, top and pixels of a square crop around boxes."""
    lefts, tops, rights, bottoms = zip(*(box.corners for box in boxes), strict=True)
    left, top, right, bottom = min(lefts), min(tops), max(rights), max(bottoms)
    side = round(max(max(right - left, bottom - top) * (1 + MARGIN), MIN_SIDE_PX))
    x = max(round((left + right - side) / 2), 0)
    y = max(round((top + bottom - side) / 2), 0)
    return x, y, bgr[y : y + side, x : x + side]


def _caption(match: Match, data: Dataset) -> str:
    """Return the tile's caption."""
    wanted = data.labels[Match.label_of(match.truth)] if match.truth else ""
    if match.found is None:
        return f"missed {wanted}"
    seen = f"{data.labels[Match.label_of(match.found)]} {match.found['score']:.2f}"
    if match.is_hit:
        return seen
    return f"{seen}, is {wanted}" if wanted else f"{seen}, false alarm"
