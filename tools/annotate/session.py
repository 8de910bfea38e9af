"""A session in which one person labels one data set: views, proposals, saved answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import cv2
import msgspec
import numpy as np

from edge.color import TERMS
from edge.errors import EdgeError
from edge.values import Polygon
from tools.annotate.view import View, view_of
from tools.color.data.label_file import LabelFile, with_agreement
from tools.color.data.labels import LABELS
from tools.color.data.objects import LabelObject, Row
from tools.color.pixels import masks
from tools.color.pixels.masks import Click, Mask
from tools.color.pixels.proposal import Proposal, Proposer

# A letter for each answer; the first ten terms have the digits 1 to 9 and 0 as well.
KEYS = dict(zip(LABELS, "kwgroyebpinmu", strict=True))
DIGITS = dict(zip(TERMS, "1234567890", strict=False))


class AnswerKey(msgspec.Struct, frozen=True):
    """An answer and the keys that give it; digit: empty where there is none."""

    name: str
    letter: str
    digit: str


class Progress(msgspec.Struct, frozen=True):
    """Progress; next: the index of the next object without a label, None when all have one."""

    title: str
    total: int
    labelled: int
    next: int | None
    counts: dict[str, int]
    answers: tuple[AnswerKey, ...]


class Surface(msgspec.Struct, frozen=True):
    """A cluster of the mask's pixels: color as #rrggbb, CIELAB, share of the mask, basic term."""

    color: str
    lab: tuple[int, int, int]
    share: float
    name: str


class Suggestion(msgspec.Struct, frozen=True):
    """The proposed answer; outlines: of the mask, points 0..1 of the view."""

    label: str
    colors: tuple[str, ...]
    sure: bool
    shares: dict[str, float]
    surfaces: tuple[Surface, ...]
    outlines: list[Polygon]
    is_guess: bool


class Saved(msgspec.Struct, frozen=True):
    """An answer that is on disk."""

    label: str
    colors: tuple[str, ...]
    sure: bool


class ObjectState(msgspec.Struct, frozen=True):
    """One object as the page shows it; box: x, y, width, height, 0..1 of the view, or None.

    revision: tells what is saved from what was before, empty where nothing is.
    """

    index: int
    image: str
    cls: str
    width: int
    height: int
    box: tuple[float, float, float, float] | None
    suggestion: Suggestion
    saved: Saved | None
    revision: str


class Marks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The person's changes to the mask; grow: steps, negative to shrink."""

    clicks: Annotated[tuple[Click, ...], msgspec.Meta(max_length=100)] = ()
    grow: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The person's answer; raises ValueError for an unknown label or color.

    revision: of the object's state that the person saw.
    """

    label: str
    colors: tuple[str, ...]
    sure: bool
    marks: Marks = Marks()
    revision: str = ""

    def __post_init__(self) -> None:
        """Refuse unknown labels and colors, and a dominant color that is not the first."""
        if self.label not in KEYS or not set(self.colors) <= set(TERMS):
            raise ValueError(f"label and colors must be of {', '.join(KEYS)}")
        if self.label in TERMS and self.colors[:1] != (self.label,):
            raise ValueError("the first of the colors must be the label")


class OutdatedError(EdgeError):
    """The object's answer has changed since the page showed it."""


class Session:
    """The state behind the page; used by one thread at a time."""

    def __init__(
        self,
        objects: Sequence[LabelObject],
        labels: LabelFile,
        proposer: Proposer,
        labeller: int = 1,
    ) -> None:
        """Take the objects, their label file, and which of two labellers the person is."""
        self.objects = objects
        self._labels = labels
        self._proposer = proposer
        self._number = str(labeller)
        self._history: list[tuple[int, Row | None]] = []
        self._seen: dict[int, ObjectState] = {}
        self._view: tuple[int, View] | None = None

    def progress(self, after: int = -1) -> Progress:
        """Return the counts, and the first object without a label after `after`."""
        answers = [self._saved(index) for index in range(len(self.objects))]
        left = [index for index, saved in enumerate(answers) if saved is None]
        return Progress(
            title=self._labels.path.name,
            total=len(answers),
            labelled=len(answers) - len(left),
            next=next((index for index in left if index > after), left[0] if left else None),
            counts=dict(Counter(saved.label for saved in answers if saved is not None)),
            answers=tuple(AnswerKey(name, KEYS[name], DIGITS.get(name, "")) for name in KEYS),
        )

    def jpeg(self, index: int) -> bytes:
        """Return the view of an object; InputError when its picture cannot be read."""
        return self.view(index).jpeg()

    def view(self, index: int) -> View:
        """Return an object with its surroundings."""
        if self._view is None or self._view[0] != index:
            self._view = index, view_of(self.objects[index])
        return self._view[1]

    def state(self, index: int) -> ObjectState:
        """Return an object as the page shows it before any click."""
        if index not in self._seen:
            view = self.view(index)
            self._seen[index] = ObjectState(
                index=index,
                image=self.objects[index].image,
                cls=self.objects[index].cls,
                width=view.bgr.shape[1],
                height=view.bgr.shape[0],
                box=view.box_norm,
                suggestion=self.suggest(index, Marks()),
                saved=self._saved(index),
                revision=self._revision(index),
            )
        return self._seen[index]

    def suggest(self, index: int, marks: Marks) -> Suggestion:
        """Return the mask for the marks, and the proposed colors."""
        view = self.view(index)
        mask, is_guess = self._mask(index, marks)
        clicked = None if mask is None else masks.bounds(mask)
        box_px = view.box_px or clicked or view.object_px
        proposal = self._proposer.propose(view.bgr, box_px, mask, self.objects[index].cls)
        outlines = [] if mask is None else masks.outlines(mask)
        return _suggestion(proposal, outlines, is_guess=is_guess)

    def accept(self, index: int, answer: Answer) -> Progress:
        """Save an answer to disk and return the progress.

        Raises OutdatedError for an answer to an older state of the object: another tab was first.
        """
        if answer.revision != self._revision(index):
            raise OutdatedError(
                "not saved: this object was answered or taken back in another tab meanwhile; "
                "this is how it is now, answer again"
            )
        one = self.objects[index]
        former = self._labels.get(one.key)
        self._labels.put(one.key, self._row(one, former, answer, index))
        self._history.append((index, former))
        self._seen.pop(index, None)
        return self.progress(index)

    def undo(self) -> int | None:
        """Take back the last answer of this session; return its object, None when there is none."""
        if not self._history:
            return None
        index, former = self._history[-1]
        self._labels.put(self.objects[index].key, former)
        self._history.pop()
        self._seen.pop(index, None)
        return index

    def _row(self, one: LabelObject, former: Row | None, answer: Answer, index: int) -> Row:
        number, view = self._number, self.view(index)
        mask, _ = self._mask(index, answer.marks)
        outlines = [] if mask is None else [view.in_picture(each) for each in masks.outlines(mask)]
        return with_agreement(
            (former or one.row())
            | {
                f"label_{number}": answer.label,
                f"colors_{number}": answer.colors,
                f"sure_{number}": answer.sure,
                f"outline_{number}": outlines,
                f"by_{number}": "person",
                f"utc_{number}": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )

    def _saved(self, index: int) -> Saved | None:
        row = self._labels.get(self.objects[index].key)
        if row is None or f"label_{self._number}" not in row:
            return None
        label = row[f"label_{self._number}"]
        colors = row.get(f"colors_{self._number}") or [label]
        sure = bool(row.get(f"sure_{self._number}", True))
        return Saved(label, tuple(color for color in colors if color in TERMS), sure)

    def _revision(self, index: int) -> str:
        """Return a digest of this labeller's part of the object's row."""
        row = self._labels.get(self.objects[index].key) or {}
        own = {key: row[key] for key in row if key.endswith(f"_{self._number}")}
        return hashlib.sha256(msgspec.json.encode(own)).hexdigest()[:16] if own else ""

    def _mask(self, index: int, marks: Marks) -> tuple[Mask | None, bool]:
        """Return the object's mask, None without box and clicks, and whether it is a guess."""
        view, row = self.view(index), self._labels.get(self.objects[index].key) or {}
        outlines = row.get(f"outline_{self._number}")
        if marks.clicks and (view.box_px or any(click.is_object for click in marks.clicks)):
            cut = masks.from_clicks(view.bgr, marks.clicks, view.box_px)
        elif outlines:
            cut = masks.Cut(_filled(view, outlines), is_guess=False)
        elif view.box_px is not None:
            cut = masks.from_box(view.bgr, view.box_px)
        else:
            return None, False
        return masks.grown(cut.mask, marks.grow), cut.is_guess


def _filled(view: View, outlines: Sequence[Polygon]) -> Mask:
    drawn = np.zeros(view.bgr.shape[:2], np.uint8)
    for outline in outlines:
        points = np.array([view.from_picture(point) for point in outline])
        cv2.fillPoly(drawn, [points.round().astype(np.int32)], 1)
    return drawn > 0


def _suggestion(proposal: Proposal, outlines: list[Polygon], *, is_guess: bool) -> Suggestion:
    surfaces = tuple(
        Surface(
            color="#{:02x}{:02x}{:02x}".format(*one.rgb),
            lab=(round(one.lab[0]), round(one.lab[1]), round(one.lab[2])),
            share=round(one.share, 3),
            name=one.name,
        )
        for one in proposal.clusters
    )
    shares = {one.name: round(one.score, 3) for one in proposal.shares if one.score >= 0.01}
    return Suggestion(
        label=proposal.label,
        colors=proposal.colors,
        sure=proposal.is_sure,
        shares=shares,
        surfaces=surfaces,
        outlines=outlines,
        is_guess=is_guess,
    )
