"""Which name, state directory and unit a daemon has by its config."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import msgspec

from edge import lookup
from edge.config import Config
from edge.config_file.read import load
from edge.errors import ConfigError

# As in edge.service and edge@.service (ConfigurationDirectory, StateDirectory).
SERVICE_CONFIGS = Path("/etc/edge")
SERVICE_STATES = Path("/var/lib")


def device_name(config: Config) -> str:
    """Return the configured device name, else the host name made safe for topics."""
    if config.device is not None:
        return config.device
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:64] or "edge"


def state_dir(config: Config) -> Path:
    """Return the daemon's state directory: configured, systemd's, or the user's.

    Raises ConfigError when the user's home folder is unknown.
    """
    if config.state_dir is not None:
        return Path(config.state_dir)
    if "STATE_DIRECTORY" in os.environ:
        return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return lookup.expanded(base, ConfigError) / "edge"


def load_of_service(path: Path) -> Config:
    """Return the config of a daemon that may run as a service, with its `state_dir` filled in.

    Commands that talk to the daemon need it. The units keep the state of /etc/edge/edge.yaml in
    /var/lib/edge and that of /etc/edge/door.yaml (edge@door) in /var/lib/edge-door. It is filled in
    only when neither the config nor the environment names the directory.
    Raises ConfigError as `load` does.
    """
    config = load(path)
    if config.state_dir is None and "STATE_DIRECTORY" not in os.environ:
        # A link into a folder that only root may look at.
        kept = SERVICE_STATES / unit(path).replace("@", "-", 1)
        if path.absolute().parent == SERVICE_CONFIGS and os.path.lexists(kept):
            return msgspec.structs.replace(config, state_dir=str(kept))
    return config


def unit(path: Path) -> str:
    """Return the unit that runs a config: `edge@door` for /etc/edge/door.yaml, else `edge`."""
    is_instance = path.absolute().parent == SERVICE_CONFIGS and path.stem != "edge"
    return f"edge@{path.stem}" if is_instance else "edge"
