"""The config file of a daemon, and what follows from it: name, state directory, unit."""

from edge.config_file.daemon import SERVICE_CONFIGS, device_name, load_of_service, state_dir, unit
from edge.config_file.read import MAX_BYTES, PLACES, RESERVED_NAMES, json_schema, load, parse

__all__ = [
    "MAX_BYTES",
    "PLACES",
    "RESERVED_NAMES",
    "SERVICE_CONFIGS",
    "device_name",
    "json_schema",
    "load",
    "load_of_service",
    "parse",
    "state_dir",
    "unit",
]
