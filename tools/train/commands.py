"""What was run to make a model, command by command: checkpoints keep it, cards print it."""

from __future__ import annotations

from pathlib import Path

from tools import tensor_file


def of_file(path: Path, kind: str) -> tuple[str, ...]:
    """Return the commands that made a checkpoint; none of an older one, or where there is no file.

    kind: the command of `edge-tools` whose checkpoint it is.
    Raises InputError when it is no checkpoint.
    """
    if not path.exists():
        return ()
    config = tensor_file.read(path, ("config",), kind)["config"]
    return tuple(config.get("commands", ())) if isinstance(config, dict) else ()


def in_order(*parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the commands of all parts, each once."""
    return tuple(dict.fromkeys(command for part in parts for command in part))
