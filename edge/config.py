"""The config file's schema: one frozen struct per stage; only a camera's source has no default.

Loading reads only the file (see `edge.config_file`); it never probes hardware or repairs values.
Units are in the names; shares and scores are 0..1; points of polygons are x, y as shares of the
frame's width and height.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

# They end with `$(?!\n)` because Python's `$` alone accepts a trailing newline.
NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
# May begin with a slash; an empty level elsewhere is a slip that nobody subscribes to.
PREFIX_PATTERN = r"^(?=.{1,128}$)/?[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*$(?!\n)"
# A name, an IPv4 or an IPv6 address.
HOST_PATTERN = r"^(?:[^\s/@:\[]+|[^\s/@:\[]*:[^\s/@:\[]*:[^\s/@\[]*)$(?!\n)"
TEXT_PATTERN = r"^[^\x00]+$"  # no system call takes a NUL
PIXEL_FORMAT_PATTERN = r"^([A-Z0-9 ]{4})?$(?!\n)"

Share = Annotated[float, Meta(ge=0, le=1)]
Score = Annotated[float, Meta(ge=0.01, le=1)]  # below this, a detector finds objects everywhere
NotNegative = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(ge=0, le=1000)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Pixels = Annotated[int, Meta(ge=0, le=100_000)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Name = Annotated[
    str,
    Meta(pattern=NAME_PATTERN, description="Letters, digits, _ and -; used in topics"),
]
Prefix = Annotated[str, Meta(pattern=PREFIX_PATTERN)]
Text = Annotated[str, Meta(pattern=TEXT_PATTERN)]
Host = Annotated[str, Meta(pattern=HOST_PATTERN)]
PixelFormat = Annotated[str, Meta(pattern=PIXEL_FORMAT_PATTERN)]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
PointConfig = tuple[Share, Share]
PolygonConfig = Annotated[tuple[PointConfig, ...], Meta(min_length=3)]


def in_url(host: str) -> str:
    """Return a `Host` as written in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, unknown keys refused."""


class MqttConfig(Section, frozen=True, kw_only=True):
    """Broker and login.

    protocol: `auto` tries MQTT 5, then 3.1.1 when the broker refuses it.
    password_file: file whose first line is the password; without it the variable
        EDGE_MQTT_PASSWORD or the systemd credential `mqtt-password` is used.
    ca_file: PEM of the authority that signed the broker's certificate; turns TLS on.
    cert_file, key_file: PEM of this client's certificate and key.
    tls: TLS with the system's authorities when no ca_file is given.
    keepalive_s: a half-open connection is noticed within twice this.
    retry_min_s, retry_max_s: bounds of the jittered back-off between attempts to connect; a broker
        that refuses the login is asked again after retry_max_s.
    max_in_flight: events sent and not yet acknowledged.
    discovery: publish Home Assistant discovery under `discovery_prefix`.
    """

    host: Host = "localhost"
    port: Port = 1883
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: Text | None = None
    password_file: Text | None = None
    tls: bool = False
    ca_file: Text | None = None
    cert_file: Text | None = None
    key_file: Text | None = None
    keepalive_s: Annotated[int, Meta(ge=2, le=3600)] = 30
    retry_min_s: Seconds = 1
    retry_max_s: Seconds = 60
    max_in_flight: Annotated[int, Meta(ge=1, le=1000)] = 20
    prefix: Prefix = "edge"
    discovery: bool = True
    discovery_prefix: Prefix = "homeassistant"


CommandName = Literal["pause", "resume", "set_thresholds", "snapshot", "reload"]


class CommandsConfig(Section, frozen=True, kw_only=True):
    """Which commands are obeyed, and from whom.

    allow: all other commands are answered with an error and change nothing.
    key_file: file whose first line is a key shared with those who may send commands; with it, only
        signed commands (`edge sign-command`) are obeyed.
    max_age_s: how far a signed command's time may differ from this device's clock.
    """

    allow: tuple[CommandName, ...] = get_args(CommandName)
    key_file: Text | None = None
    max_age_s: Seconds = 30


class BudgetConfig(Section, frozen=True, kw_only=True):
    """The latency budget.

    frame_ms: greatest age of a frame when its result is handed to the publisher.
    """

    frame_ms: Annotated[float, Meta(ge=5, le=60_000)] = 200


class MotionConfig(Section, frozen=True, kw_only=True):
    """The motion gate: without motion the detector does not run.

    threshold: gray levels (0..255) by which a pixel must differ from the background.
    min_area: share of the unmasked picture that must differ.
    hold_s: the gate stays open this long after the last motion.
    refresh_s: the detector runs at least this often, motion or not; an object that it misses then
        is looked for on every frame, until `tracker.max_lost_s`.
    """

    enabled: bool = True
    threshold: Annotated[int, Meta(ge=1, le=255)] = 18
    min_area: Share = 0.0008
    hold_s: NotNegative = 2.0
    refresh_s: Seconds = 10.0


class CameraConfig(Section, frozen=True, kw_only=True):
    """One source of frames.

    source: index or /dev path (V4L2), rtsp:// or http(s):// address, video file, image, folder of
        images, or a GStreamer pipeline (contains `!`).
    loop: files begin again at their end.
    realtime: files play at their recorded rate; false = as fast as possible, no frame dropped.
    open_timeout_s, read_timeout_s: after these the source counts as lost and is opened again.
    frozen_timeout_s: a live source that repeats the same picture for this long counts as lost;
        0 = never.
    retry_min_s, retry_max_s: bounds of the jittered back-off between attempts.
    width, height, fps: requested from a V4L2 camera; 0 = its default. fps is also the rate of a
        folder of images; 0 = one a second; at least one a day.
    pixel_format: four characters, requested from a V4L2 camera, such as MJPG, which brings large
        frames faster over USB; empty = OpenCV's choice.
    rotate: by how many degrees frames are turned clockwise; zones, masks and boxes are in the
        turned frame.
    zones: named polygons; events list those that contain the object's foot point.
    masks: polygons without motion or detections.
    motion: this camera's motion gate; None = that of the whole file.
    labels: the classes that count on this camera, of those enabled; None = all.
    """

    source: Annotated[int, Meta(ge=0)] | Text
    loop: bool = False
    realtime: bool = True
    open_timeout_s: Seconds = 10
    read_timeout_s: Seconds = 5
    frozen_timeout_s: Annotated[float, Meta(ge=0, le=86_400)] = 300
    retry_min_s: Seconds = 0.5
    retry_max_s: Seconds = 30
    width: Pixels = 0
    height: Pixels = 0
    fps: Rate = 0
    pixel_format: PixelFormat = ""
    rotate: Literal[0, 90, 180, 270] = 0
    zones: dict[Name, PolygonConfig] = {}
    masks: tuple[PolygonConfig, ...] = ()
    motion: MotionConfig | None = None
    labels: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None

    def is_read_like(self, other: CameraConfig) -> bool:
        """Return whether the frames are the same: what differs is at most what is made of them."""
        return self == msgspec.structs.replace(
            other, zones=self.zones, masks=self.masks, motion=self.motion, labels=self.labels
        )


class LabelConfig(Section, frozen=True, kw_only=True):
    """What a detection of a class needs to count; None = the detector's default."""

    enabled: bool = True
    min_score: Score | None = None
    min_width_px: Pixels = 0
    min_height_px: Pixels = 0


class DetectorConfig(Section, frozen=True, kw_only=True):
    """The detector model, and the score from which an object counts.

    model: name of an installed model (`edge models`) or path of a model folder.
    faster_model: another one for the same classes, which runs on the frames whose budget `model`
        does not fit; None = such frames are skipped.
    threads: CPU threads for one invoke.
    min_score: score that begins a track; the score of a tracked object may fall to half of it.
    labels: per-class settings.
    """

    model: Text = "yolox-nano-352"
    faster_model: Text | None = None
    threads: Annotated[int, Meta(ge=1, le=16)] = 1
    min_score: Score = 0.5
    labels: dict[str, LabelConfig] = {}


class ColorConfig(Section, frozen=True, kw_only=True):
    """Color of tracked objects.

    refresh_s: an object's color is classified again after this time.
    min_score: further colors with a smaller share are not published.
    """

    enabled: bool = True
    model: Text = "color-160"
    threads: Annotated[int, Meta(ge=1, le=16)] = 1
    refresh_s: Seconds = 2.0
    min_score: Share = 0.15


class TrackerConfig(Section, frozen=True, kw_only=True):
    """How detections become objects with stable ids.

    min_hits: detections before an object is confirmed.
    max_lost_s: time out of sight after which an object has ended.
    min_iou: smallest overlap that makes a detection the same object.
    smoothing: weight of the newest box, 0..1; smaller is calmer.
    """

    min_hits: Count = 3
    max_lost_s: Seconds = 2.0
    min_iou: Share = 0.2
    smoothing: Annotated[float, Meta(gt=0, le=1)] = 0.6


class EventsConfig(Section, frozen=True, kw_only=True):
    """Which changes of an object cause an event.

    update_interval_s: at most one update per object in this time.
    min_move: for an update, the box's center must have moved by this share of the box's size, or
        the label, dominant color or zones must have changed.
    zone_hold_s: a zone is entered or left when the object has stayed in or out this long.
    """

    update_interval_s: Seconds = 1.0
    min_move: NotNegative = 0.5
    zone_hold_s: NotNegative = 0.5


class PublishConfig(Section, frozen=True, kw_only=True):
    """What is published besides events.

    detections: every processed frame's boxes at QoS 0.
    snapshots: a JPEG of the best crop per label, retained.
    """

    detections: bool = False
    snapshots: bool = True
    stats_interval_s: Seconds = 10.0


class SpoolConfig(Section, frozen=True, kw_only=True):
    """The on-disk queue of events.

    max_bytes: when full, the oldest events are dropped and the lost range is published.
    max_write_bytes_per_day: estimate of bytes written to the card; beyond it, commits are rarer.
    commit_interval_s: an event is on disk at the latest this long after it was handed over.
    """

    max_bytes: Annotated[int, Meta(ge=65_536, le=2**50)] = 32 * 1024 * 1024
    max_write_bytes_per_day: Annotated[int, Meta(ge=1_048_576, le=2**50)] = 1024 * 1024 * 1024
    commit_interval_s: Annotated[float, Meta(ge=0, le=60)] = 0.05


class WebConfig(Section, frozen=True, kw_only=True):
    """The read-only status page and REST API; needs the extra `web`.

    host: address to listen on; beyond the loopback, anybody who can reach it sees the picture.
    """

    enabled: bool = False
    host: Host = "127.0.0.1"
    port: Port = 8080


class ModelsConfig(Section, frozen=True, kw_only=True):
    """Where `edge models pull` takes versions from, and whose signatures are trusted.

    registry: a folder, or an address such as s3://bucket/models (extra `registry`).
    trusted_keys: minisign public keys; if any are given, a model folder that none of them signed is
        refused, except those that ship with edge.
    """

    registry: Text | None = None
    trusted_keys: tuple[Text, ...] = ()


class MetricsConfig(Section, frozen=True, kw_only=True):
    """Prometheus metrics; need the extra `metrics`.

    port: where `/metrics` is served over HTTP; None = not at all.
    host: address to listen on.
    textfile: file for node_exporter's textfile collector, best on a RAM disk.
    """

    port: Port | None = None
    host: Host = "127.0.0.1"
    textfile: Text | None = None


class LogConfig(Section, frozen=True, kw_only=True):
    """What is logged, and where besides standard error.

    format: text or JSON objects on standard error; null: $EDGE_LOG_FORMAT, else text.
    file: JSON lines, rotated to `<file>.1`, … at file_max_bytes; file_count of these are kept.
    syslog: `host`, `host:port` (UDP), `tcp://host:port` or `/dev/log`; RFC 5424.
    otlp: address of an OpenTelemetry collector, http://host:4318 (extra `otlp`).
    mqtt_level: records from this level on are also published on the topic `log`, 20 at once, then
        at most 30 a minute; null: none. `level` applies first.
    file, syslog and otlp fall back to $EDGE_LOG_FILE, $EDGE_LOG_SYSLOG, $EDGE_LOG_OTLP.
    """

    level: LogLevel = "info"
    format: LogFormat | None = None
    file: Text | None = None
    file_max_bytes: Annotated[int, Meta(ge=4096, le=2**40)] = 1_048_576
    file_count: Annotated[int, Meta(ge=1, le=100)] = 3
    syslog: Text | None = None
    otlp: Text | None = None
    mqtt_level: LogLevel | None = None


class Config(Section, frozen=True, kw_only=True):
    """The whole file.

    device: name in topics; the host name when absent.
    state_dir: holds the spool, the status socket and what is remembered; $STATE_DIRECTORY, else the
        user's state directory, when absent.
    models_dir: where model names are looked up first; the models that ship with edge come second.
    """

    device: Name | None = None
    state_dir: Text | None = None
    models_dir: Text | None = None
    models: ModelsConfig = ModelsConfig()
    mqtt: MqttConfig = MqttConfig()
    commands: CommandsConfig = CommandsConfig()
    budget: BudgetConfig = BudgetConfig()
    cameras: Annotated[dict[Name, CameraConfig], Meta(min_length=1)]
    motion: MotionConfig = MotionConfig()
    detector: DetectorConfig = DetectorConfig()
    color: ColorConfig = ColorConfig()
    tracker: TrackerConfig = TrackerConfig()
    events: EventsConfig = EventsConfig()
    publish: PublishConfig = PublishConfig()
    spool: SpoolConfig = SpoolConfig()
    web: WebConfig = WebConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()

    def models_by_role(self) -> dict[str, str]:
        """Return the models that the daemon loads: `detector`, and where set the other two."""
        models = {"detector": self.detector.model}
        if self.detector.faster_model is not None:
            models["faster_detector"] = self.detector.faster_model
        if self.color.enabled:
            models["color"] = self.color.model
        return models
