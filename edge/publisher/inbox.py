"""A bounded queue of received commands that wait for the main loop."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from edge.messages import Topics
from edge.publisher.connection import Incoming

MAX_COMMANDS = 32
MAX_COMMAND_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class IncomingCommand:
    """A message of `command/<name>`, not yet decoded; answer it with `Publisher.respond`."""

    name: str
    payload: bytes
    response_topic: str | None
    correlation_data: bytes | None


class Inbox:
    """Filled by the network thread, emptied by the main loop.

    taken, refused: commands since the daemon's start.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._queue: queue.Queue[IncomingCommand] = queue.Queue(MAX_COMMANDS)
        self.taken = 0
        self.refused = 0

    def put(self, incoming: Incoming) -> tuple[IncomingCommand, str]:
        """Queue a command; return it and the reason for a refusal, empty when accepted."""
        name = incoming.topic.removeprefix(self._topics.command(""))
        command = IncomingCommand(
            name, incoming.payload, incoming.response_topic, incoming.correlation_data
        )
        fault = _fault(incoming)
        if not fault:
            try:
                self._queue.put_nowait(command)
            except queue.Full:
                fault = f"command {name}: {MAX_COMMANDS} commands wait already; ask later"
        self.taken += not fault
        self.refused += bool(fault)
        return command, fault

    def get(self) -> IncomingCommand | None:
        """Return the oldest command, None when there is none."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None


def _fault(incoming: Incoming) -> str:
    """Return why a command is refused before decoding, empty when it is not."""
    if len(incoming.payload) > MAX_COMMAND_BYTES:
        return f"payload over {MAX_COMMAND_BYTES} bytes; send less"
    if incoming.retain:
        # The broker would deliver it again on every connection.
        return "a retained command is not obeyed; publish it without retain"
    return ""
