"""What one labeller's session proposes, and takes back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.values import Box, ColorScore, Image
from tools.annotate.session import Answer, Marks, Session
from tools.color.data.label_file import LabelFile
from tools.color.data.objects import LabelObject
from tools.color.pixels.masks import Click, Mask
from tools.color.pixels.proposal import Proposal, Proposer

RED_PX = Box(60, 40, 50, 50)


class RedProposer(Proposer):
    """Proposes red for everything, and keeps the boxes it was asked about."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []

    def propose(self, bgr: Image, box_px: Box, mask: Mask | None, cls: str = "") -> Proposal:
        self.boxes.append(box_px)
        return Proposal("red", ("red",), True, (ColorScore("red", 1.0),), ())


@pytest.fixture
def proposer() -> RedProposer:
    return RedProposer()


@pytest.fixture
def session(tmp_path: Path, proposer: RedProposer) -> Session:
    """One picture of 300x200 with a red square and no box."""
    bgr = np.full((200, 300, 3), (90, 160, 90), np.uint8)
    x, y, width, height = map(int, RED_PX)
    bgr[y : y + height, x : x + width] = (0, 0, 220)
    cv2.imwrite(str(tmp_path / "a.png"), bgr)
    objects = [LabelObject(tmp_path / "a.png", "a.png", None, "")]
    return Session(objects, LabelFile(tmp_path / "labels.json"), proposer)


def test_color_model_sees_the_clicked_object_and_before_that_the_picture(
    session: Session, proposer: RedProposer
) -> None:
    session.suggest(0, Marks())
    session.suggest(0, Marks((Click(85 / 300, 65 / 200),)))
    whole, clicked = proposer.boxes
    assert whole == Box(0, 0, 300, 200)
    assert clicked.iou(RED_PX) > 0.9


def test_saved_outline_gives_the_same_mask_until_it_is_clicked_again(
    session: Session, proposer: RedProposer
) -> None:
    marks = Marks((Click(85 / 300, 65 / 200),))
    session.accept(0, Answer("red", ("red",), sure=True, marks=marks))
    assert session.state(0).suggestion.outlines
    assert proposer.boxes[-1].iou(RED_PX) > 0.9
    session.suggest(0, Marks((Click(250 / 300, 150 / 200),)))
    assert proposer.boxes[-1].iou(RED_PX) < 0.1


def test_undo_brings_back_the_answer_before(session: Session) -> None:
    assert session.undo() is None
    session.accept(0, Answer("red", ("red",), sure=True))
    revision = session.state(0).revision
    session.accept(0, Answer("blue", ("blue", "white"), sure=False, revision=revision))
    assert session.undo() == 0
    saved = session.state(0).saved
    assert saved is not None
    assert (saved.label, saved.colors, saved.sure) == ("red", ("red",), True)
    assert session.undo() == 0
    assert session.state(0).saved is None
    assert session.progress().labelled == 0
