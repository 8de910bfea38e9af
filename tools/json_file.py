"""What commands write for other programs, such as `--json FILE`."""

from __future__ import annotations

import json
from pathlib import Path

from edge.errors import EdgeError


def write(content: object, path: Path, *, indent: int = 2) -> None:
    """Write JSON into a file of the user's. Raises EdgeError where it cannot be written."""
    try:  # not `durable.replace`: FILE may be a pipe or /dev/stdout
        path.write_text(json.dumps(content, indent=indent) + "\n")
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}; name a file that can be written") from None
