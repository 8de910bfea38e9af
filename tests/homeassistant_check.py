"""Checks the discovery message with Home Assistant's own schemas; run by tests/homeassistant.sh.

Reads the message as JSON from standard input, in a Python that has `homeassistant` and not edge.
Releases from 2024.11 on know device discovery and check the whole message; all check each component
with what the message says of every one. A key that a schema would silently drop is a fault too.
Prints what was checked; exits with 1 and a line for each fault. `--keys` prints, as JSON, which
keys each platform of the message takes and must have: tests/reference/homeassistant.json.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import voluptuous as vol
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame

MQTT = "homeassistant.components.mqtt"
SHARED = ("device", "origin", "availability", "qos")


def device_schema() -> Any:
    """Return the schema of a whole device, None where this release has none."""
    for name in ("discovery", "schemas"):
        try:
            module = importlib.import_module(f"{MQTT}.{name}")
        except ModuleNotFoundError:
            continue
        if hasattr(module, "DEVICE_DISCOVERY_SCHEMA"):
            return module.DEVICE_DISCOVERY_SCHEMA
    return None


def faults(message: dict[str, Any]) -> Iterator[str]:
    """Yield what Home Assistant would refuse or drop."""
    schema = device_schema()
    if schema is not None:
        yield from _faults_of("the message", schema, dict(message))
    shared = {key: message[key] for key in SHARED}
    for name, component in message["components"].items():
        if set(component) == {"platform"}:  # is to be removed: never validated as an entity
            continue
        config = {**shared, **component}
        platform = importlib.import_module(f"{MQTT}.{config.pop('platform')}")
        yield from _faults_of(name, platform.DISCOVERY_SCHEMA, config)


def _faults_of(name: str, schema: Any, config: dict[str, Any]) -> Iterator[str]:
    try:
        taken = schema(config)
    except vol.Invalid as error:
        yield f"{name}: {error}"
        return
    # An origin has been looked at by then and is not part of an entity.
    for key in sorted(set(config) - set(taken) - {"origin"}):
        yield f"{name}: {key!r} is not known to it"


def keys_of(schema: Any) -> dict[str, bool]:
    """Return a schema's keys, each with whether it must be there."""
    if isinstance(schema, vol.Schema):
        return keys_of(schema.schema)
    if isinstance(schema, dict):
        return {str(key): isinstance(key, vol.Required) for key in schema}
    found: dict[str, bool] = {}
    for part in getattr(schema, "validators", ()):
        found |= keys_of(part)
    return found


def reference(message: dict[str, Any]) -> str:
    """Return the keys of all platforms of the message as JSON."""
    names = sorted({component["platform"] for component in message["components"].values()})
    platforms = {}
    for name in names:
        keys = keys_of(importlib.import_module(f"{MQTT}.{name}").DISCOVERY_SCHEMA)
        required = sorted(key for key, is_required in keys.items() if is_required)
        platforms[name] = {"keys": sorted(keys), "required": required}
    return json.dumps({"homeassistant": __version__, "platforms": platforms}, indent=1)


async def main() -> int:
    """Check the message on standard input, within a core as templates want one."""
    core = HomeAssistant(".")
    frame.async_setup(core)
    message = json.load(sys.stdin)
    if sys.argv[1:] == ["--keys"]:
        say(reference(message))
        return 0
    found = list(faults(message))
    for fault in found:
        say(fault)
    whole = "whole message and " if device_schema() is not None else ""
    say(f"Home Assistant {__version__}: {whole}{len(message['components'])} components checked")
    return 1 if found else 0


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
