"""The commands that made a model: stored in checkpoints, printed in model cards."""

from __future__ import annotations

from pathlib import Path

from tools import tensor_file


def of_file(path: Path, kind: str) -> tuple[str, ...]:
    """Return the commands that made a checkpoint; empty for an old checkpoint or a missing file.

    kind: the `edge-tools` command that writes such checkpoints.
    Raises InputError when the file is not a checkpoint.
    """
    if not path.exists():
        return ()
    config = tensor_file.read(path, ("config",), kind)["config"]
    return tuple(config.get("commands", ())) if isinstance(config, dict) else ()


def in_order(*parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the commands of all parts in order, without duplicates."""
    return tuple(dict.fromkeys(command for part in parts for command in part))
