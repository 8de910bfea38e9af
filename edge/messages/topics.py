"""One publication, and the topics of one device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT publication."""

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
        """Return the topic a command is read from; `+` for all."""
        return f"{self.base}/command/{name}"

    def response(self, name: str) -> str:
        """Return the topic a command is answered on when the request names none."""
        return f"{self.base}/response/{name}"
