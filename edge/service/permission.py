"""Who may command: the list of allowed commands, and the shared key where one is configured.

Only a command that passes here reaches its handler, so one without permission changes nothing.
A signed command is obeyed once: its time must lie near this device's clock and after that of the
last one obeyed, which a file remembers over restarts. A clock that jumps back can therefore delay
commands; it cannot let a recording through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge import durable
from edge.config import CommandsConfig
from edge.errors import NO_ROOM, PublishError
from edge.messages import COMMANDS, Topics
from edge.messages.signing import MAX_SIGNED_MS, read_key, verify

MEMORY_NAME = "last-command"


class Permission:
    """Decides on one command message at a time; main loop only.

    state_dir: where the time of the last signed command is remembered.
    wall: seconds since the epoch.
    Raises ConfigError when the key's file cannot be used, PublishError for a damaged memory.
    """

    def __init__(
        self,
        config: CommandsConfig,
        topics: Topics,
        state_dir: Path,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._topics = topics
        self._wall = wall
        self._memory = state_dir / MEMORY_NAME
        self._key = read_key(Path(config.key_file)) if config.key_file else None
        self._last_ms = _read_memory(self._memory) if self._key else 0

    def body(self, name: str, payload: bytes) -> bytes:
        """Return the command's own payload.

        Raises ValueError, one line, for a command that may not be obeyed.
        """
        if self._key is not None:
            payload = self._signed_body(self._key, name, payload)
        if name in COMMANDS and name not in self._config.allow:  # others are refused as unknown
            raise ValueError(f"command {name[:40]!r} is not allowed here; see commands.allow")
        return payload

    def _signed_body(self, key: bytes, name: str, payload: bytes) -> bytes:
        signed = verify(key, self._topics.command(name), payload)
        away_s = abs(self._wall() - signed.signed_ms / 1000)
        if away_s > self._config.max_age_s:
            raise ValueError(
                f"signed {away_s:.0f} s away from this device's clock, at most "
                f"{self._config.max_age_s:g} are allowed; set both clocks"
            )
        if signed.signed_ms <= self._last_ms:
            raise ValueError("signed no later than a command obeyed before; sign it again")
        self._remember(signed.signed_ms)
        return signed.body.encode()

    def _remember(self, signed_ms: int) -> None:
        """Put the time on the disk before the command acts; else the command is not obeyed."""
        try:
            durable.replace(self._memory, f"{signed_ms}\n".encode(), is_synced=True)
            durable.sync_folder(self._memory.parent)
        except OSError as error:
            fix = "make room" if error.errno in NO_ROOM else "let the daemon write there"
            raise ValueError(f"{self._memory}: {error.strerror}; {fix}") from None
        self._last_ms = signed_ms


def _read_memory(path: Path) -> int:
    """Return the time of the last command obeyed, 0 when there was none."""
    try:
        last_ms = int(path.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        last_ms = -1
    if not 0 <= last_ms <= MAX_SIGNED_MS:
        raise PublishError(f"{path}: damaged; remove it (commands recorded before count again)")
    return last_ms
