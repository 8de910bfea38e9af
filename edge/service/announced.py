"""Remembers across restarts what was announced, so that what is gone can be removed elsewhere.

A component that a discovery message omits stays in Home Assistant; it is removed when the message
lists it with its platform only. What a camera has had retained stays at the broker until it is
cleared. Both are removed from then on, not once: there is no confirmation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge import durable

logger = logging.getLogger(__name__)

COMPONENTS = "announced.json"
CAMERAS = "cameras.json"


class Memory(msgspec.Struct, frozen=True):
    """What was announced on a topic: every component's platform by name; of cameras, "camera"."""

    topic: str
    platforms: dict[str, str]


def gone(path: Path, topic: str, platforms: Mapping[str, str]) -> dict[str, str]:
    """Return what was announced on a topic before and exists no longer; remember all in the file.

    platforms: of what is there now, by name; the result has the same form. A file that cannot be
    read or written is logged.
    """
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
