"""Input sizes as commands take them."""

from __future__ import annotations

import argparse

import pytest

from tools.input_size import InputSize


def test_one_side_is_a_square_and_two_are_width_and_height() -> None:
    assert InputSize.parse("416") == (416, 416)
    assert InputSize.parse("448x384") == (448, 384)
    assert str(InputSize.parse("448x384")) == "448x384"


@pytest.mark.parametrize("text", ["", "x", "100", "0", "-32", "320x", "320x320x3", "wide"])
def test_impossible_input_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="multiples of 32"):
        InputSize.parse(text)
