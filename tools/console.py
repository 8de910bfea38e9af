"""The terminal, for tables that hold names of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(width: int | None = None) -> Console:
    """Return the terminal with every name as it is: `[red]` and `:cat:` mean nothing else in it.

    width: columns; None: the terminal's.
    """
    from rich.console import Console

    return Console(width=width, markup=False, emoji=False)
