"""The input size of a detector as a command-line argument: `448x384`, or `416` for a square."""

from __future__ import annotations

import argparse
from typing import NamedTuple

STRIDE = 32  # of the coarsest feature map; sides must be multiples of it


class InputSize(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> InputSize:
        """Return the size written in a command-line argument.

        Raises argparse.ArgumentTypeError.
        """
        sides = [int(side) if side.isascii() and side.isdigit() else 0 for side in text.split("x")]
        if len(sides) > 2 or any(side <= 0 or side % STRIDE for side in sides):
            raise argparse.ArgumentTypeError(
                f"{text!r}: width x height in multiples of {STRIDE}, such as 448x384, or one side"
            )
        return cls(sides[0], sides[-1])

    def __str__(self) -> str:
        """Return the text that `parse` accepts."""
        return f"{self.width}x{self.height}"
