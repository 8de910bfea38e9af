"""Console output of tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(columns: int | None = None) -> Console:
    """Return a rich console that prints text literally: `[red]` and `:cat:` are no markup.

    columns: its width where standard output is no terminal, so that a table's cells stay whole;
        None: $COLUMNS, else 80.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else columns
    return Console(width=width, markup=False, emoji=False)
