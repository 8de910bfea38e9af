"""Prints a discovery message with every kind of component, for tests/homeassistant.sh."""

from __future__ import annotations

import sys

from edge.discovery import components_of, discovery_message
from edge.messages import COMMANDS, Topics

if __name__ == "__main__":
    topics = Topics("edge", "gate")
    components = components_of(topics, {"front": ["person", "car"], "back": ["car"]}, COMMANDS)
    gone = {"old_objects": "event"}
    message = discovery_message("homeassistant", topics, "1.2.3", components, gone)
    sys.stdout.write(message.payload.decode())
