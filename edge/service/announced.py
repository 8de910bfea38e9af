"""Remembers announced components across restarts, so that Home Assistant removes obsolete ones.

A component that a discovery message omits stays in Home Assistant; it is removed when the message
lists it with its platform only. Removed components are listed from then on, not once: there is no
confirmation that Home Assistant has read the message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge import durable

logger = logging.getLogger(__name__)

MEMORY_NAME = "announced.json"


class Memory(msgspec.Struct, frozen=True):
    """What was announced on a topic: every component's platform by name."""

    topic: str
    platforms: dict[str, str]


def gone(state_dir: Path, topic: str, platforms: Mapping[str, str]) -> dict[str, str]:
    """Return the components announced on a topic before that exist no longer; remember them all.

    platforms: of the present components, by name; the result has the same form. A file that cannot
    be read or written is logged.
    """
    path = state_dir / MEMORY_NAME
    before = _read(path)
    known = before.platforms if before.topic == topic else {}
    after = Memory(topic, {**known, **platforms})
    if after != before:
        try:
            durable.replace(path, msgspec.json.encode(after), is_synced=True)
        except OSError as error:
            logger.warning("announced.not_remembered path=%s reason=%s", path, error.strerror)
    return {name: platform for name, platform in known.items() if name not in platforms}


def _read(path: Path) -> Memory:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory("", {})
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        logger.warning("announced.forgotten path=%s reason=%s", path, error)
        return Memory("", {})
