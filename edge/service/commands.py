"""Answers commands: decodes the payload, calls a handler, turns errors into responses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from edge.errors import EdgeError
from edge.messages import (
    Command,
    Pause,
    Reload,
    Response,
    Resume,
    SetThresholds,
    Snapshot,
    decode_command,
    transaction_of,
)
from edge.service.permission import Permission

logger = logging.getLogger(__name__)

Result = dict[str, Any] | None


class CommandDesk:
    """One handler per command; each returns the response's `result` or raises EdgeError."""

    def __init__(
        self,
        permission: Permission,
        *,
        pause: Callable[[Pause], Result],
        resume: Callable[[Resume], Result],
        set_thresholds: Callable[[SetThresholds], Result],
        snapshot: Callable[[Snapshot], Result],
        reload: Callable[[Reload], Result],
    ) -> None:
        self._permission = permission
        self._handlers: dict[type[Command], Callable[[Any], Result]] = {
            Pause: pause,
            Resume: resume,
            SetThresholds: set_thresholds,
            Snapshot: snapshot,
            Reload: reload,
        }

    def answer(self, name: str, payload: bytes) -> Response:
        """Return the response to one command message; never raises, whatever it contains."""
        try:
            payload = self._permission.body(name, payload)
            command = decode_command(name, payload)
        except ValueError as error:
            logger.warning("command.refused error=%s", error)
            return Response(status="error", error=str(error), transaction=transaction_of(payload))
        try:
            result = self._handlers[type(command)](command)
        except EdgeError as error:
            logger.warning("command.failed name=%s error=%s", name, error)
            return Response(status="error", error=str(error), transaction=command.transaction)
        camera = getattr(command, "camera", None) or "-"  # not named: all, or none
        logger.info("command.done name=%s camera=%s", name, camera)
        return Response(status="ok", result=result, transaction=command.transaction)
