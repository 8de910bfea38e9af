"""Topics and payloads: encodes and decodes them. One schema for code, documentation and tests.

All payloads are JSON objects. Times are UTC in ISO 8601 with milliseconds and `Z`.
"""

from edge.messages.commands import (
    COMMANDS,
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
from edge.messages.event import (
    BoxBody,
    Detections,
    Event,
    EventBody,
    LostRange,
    SpooledEvent,
    detections_body,
    event_body,
    stamp_event,
)
from edge.messages.payload import Payload, encode, utc_text
from edge.messages.state import (
    CameraHealth,
    CameraState,
    CameraStats,
    Health,
    Info,
    ModelInfo,
    MqttStats,
    Report,
    SpoolStats,
    Stats,
    Status,
)
from edge.messages.topics import Message, Topics

__all__ = [
    "COMMANDS",
    "BoxBody",
    "CameraHealth",
    "CameraState",
    "CameraStats",
    "Command",
    "Detections",
    "Event",
    "EventBody",
    "Health",
    "Info",
    "LostRange",
    "Message",
    "ModelInfo",
    "MqttStats",
    "Pause",
    "Payload",
    "Reload",
    "Report",
    "Response",
    "Resume",
    "SetThresholds",
    "Snapshot",
    "SpoolStats",
    "SpooledEvent",
    "Stats",
    "Status",
    "Topics",
    "decode_command",
    "detections_body",
    "encode",
    "event_body",
    "stamp_event",
    "transaction_of",
    "utc_text",
]
