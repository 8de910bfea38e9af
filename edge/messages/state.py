"""Payloads that describe a device and its state, on MQTT, the page and the status socket."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge.messages.payload import Payload


class Status(Payload, frozen=True, kw_only=True):
    """`status`, retained: the birth and the will."""

    status: Literal["online", "offline"]
    boot_id: str
    version: str


class CameraState(Payload, frozen=True, kw_only=True):
    """`<camera>/state`, retained: opening, live, lost or ended, and why; paused: by command."""

    camera: str
    state: str
    reason: str = ""
    paused: bool = False


class ModelInfo(Payload, frozen=True, kw_only=True):
    """A loaded model in `info`.

    version: the manifest's. pulled: the registry's, None for a model that was not pulled.
    """

    name: str
    version: str
    sha256: str
    integer_only: bool
    runtime: str
    pulled: str | None = None


class Info(Payload, frozen=True, kw_only=True):
    """`info`, retained: what this device runs and can do."""

    device: str
    version: str
    boot_id: str
    models: dict[str, ModelInfo]
    cameras: tuple[str, ...]
    labels: tuple[str, ...]
    budget_ms: float
    commands: tuple[str, ...]


class CameraStats(Payload, frozen=True, kw_only=True):
    """A camera in `stats`; counters since the daemon's start.

    frames: read from the source; each is detected or counted in `skipped` by cause.
    frames_per_s: detected frames per second since the last stats.
    paused: whether the command `pause` stopped detection.
    """

    state: str
    frames: int
    frames_per_s: float = 0.0
    detected: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    bad_frames: int
    reconnects: int
    hung: int
    paused: bool = False


class SpoolStats(Payload, frozen=True, kw_only=True):
    """The spool in `stats`."""

    waiting: int
    lost: int
    used_bytes: int
    written_bytes: int
    failure: str


class MqttStats(Payload, frozen=True, kw_only=True):
    """The connection to the broker in `stats`.

    state: connecting, connected, lost, refused or closed, then after a colon the protocol or why.
    connects, refusals: by the broker. rejected: events that it did not accept.
    sent: events, of these `sent_again` without an acknowledgement of the first time.
    dropped: other messages, for want of a connection or room, or not accepted.
    ack_ms_p50, ack_ms_p95: from an event's sending to its acknowledgement.
    """

    state: str
    connects: int = 0
    refusals: int = 0
    sent: int = 0
    sent_again: int = 0
    acknowledged: int = 0
    rejected: int = 0
    in_flight: int = 0
    dropped: int = 0
    commands: int = 0
    commands_refused: int = 0
    ack_ms_p50: float = 0.0
    ack_ms_p95: float = 0.0

    @property
    def is_connected(self) -> bool:
        """Return whether the broker has accepted the connection."""
        return self.state.startswith("connected")


class Stats(Payload, frozen=True, kw_only=True):
    """`stats`: counters since the daemon's start, quantiles over the last frames, of all cameras.

    frames_per_s: detected frames per second since the last stats.
    detected_faster: those of `detected` on which `detector.faster_model` ran.
    skipped: frames by cause; `late`: results handed over after the promised age.
    latency_ms: age of frames when their result was handed to the publisher.
    degraded: why work is being saved now: `thermal` while the board is throttled by heat, `load`
        while other programs use the processor, else `budget`; empty when none is.
    Readings that the board does not provide are None.
    """

    boot_id: str
    uptime_s: float
    frames_per_s: float
    detected: int
    skipped: dict[str, int]
    detected_faster: int = 0
    late: int
    colors_shed: int
    events: int
    latency_ms: dict[str, float]
    stages_ms: dict[str, dict[str, float]]
    degraded: str
    cameras: dict[str, CameraStats]
    spool: SpoolStats
    mqtt: MqttStats
    temperature_c: float | None
    cpu_governor: str | None
    cpu_hz: int | None
    load_1min: float | None
    rss_bytes: int | None


class CameraHealth(Payload, frozen=True, kw_only=True):
    """A camera in `Health`.

    state: opening, live, lost or ended.
    frame_age_s: age of the newest frame, None before the first.
    paused: whether the command `pause` stopped detection.
    """

    state: str
    frame_age_s: float | None
    paused: bool = False


class Health(Payload, frozen=True, kw_only=True):
    """`/healthz`: `ok` while frames arrive from each camera or it is being retried.

    cameras: by name; empty before the first report.
    """

    status: Literal["ok", "failing"]
    cameras: dict[str, CameraHealth]


class Report(Payload, frozen=True, kw_only=True):
    """The answer of the status socket; info and stats are None before they are known."""

    health: Health
    info: Info | None
    stats: Stats | None
