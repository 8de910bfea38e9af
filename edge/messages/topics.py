"""MQTT messages, and the topics of a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """An MQTT message to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one device: `<prefix>/<device>/…`."""

    prefix: str
    device: str

    @property
    def base(self) -> str:
        """Return `<prefix>/<device>`."""
        return f"{self.prefix}/{self.device}"

    def of(self, name: str) -> str:
        """Return a topic of the device: status, info, stats, lost or log."""
        return f"{self.base}/{name}"

    def camera(self, camera: str, name: str) -> str:
        """Return a topic of a camera: events, detections, state, snapshot/<label> or /frame."""
        return f"{self.base}/{camera}/{name}"

    def command(self, name: str) -> str:
        """Return the topic on which a command is received; `+` for all commands."""
        return f"{self.base}/command/{name}"

    def response(self, name: str) -> str:
        """Return the topic of the response to a command that names no response topic."""
        return f"{self.base}/response/{name}"
