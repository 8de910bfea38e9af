"""Prints a discovery message with every kind of component, for tests/homeassistant.sh."""

from __future__ import annotations

import sys

from edge.discovery import discovery_message
from edge.messages import COMMANDS, Topics

if __name__ == "__main__":
    message = discovery_message(
        "homeassistant", Topics("edge", "gate"), "1.2.3", ["front", "back"], ["person", "car"],
        COMMANDS,
    )  # fmt: skip
    sys.stdout.write(message.payload.decode())
