"""Console output of tables with user-defined names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(width: int | None = None) -> Console:
    """Return a rich console that prints text literally: `[red]` and `:cat:` are no markup.

    width: in columns; None: the terminal's.
    """
    from rich.console import Console

    return Console(width=width, markup=False, emoji=False)
