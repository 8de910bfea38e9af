"""The config sections that a reload cannot change: their parts run until the daemon stops."""

from __future__ import annotations

from pathlib import Path

from edge.config import Config
from edge.errors import ConfigError

FIXED_SECTIONS = ("device", "state_dir", "mqtt", "commands", "spool", "web", "metrics")


def refuse_fixed_changes(path: Path, old: Config, new: Config) -> None:
    """Raise ConfigError, naming the file and the sections, when a change needs a restart."""
    changed = [name for name in FIXED_SECTIONS if getattr(new, name) != getattr(old, name)]
    if changed:
        raise ConfigError(f"{path}: restart needed for a change of {', '.join(changed)}")
