"""The families of metrics that tell `info` and `stats`, made at the moment of asking.

Source of the names: Prometheus documentation, "Metric and label naming" (base units, `_total`).
Imports prometheus_client only when used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edge.messages import Info, Stats

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MQTT_COUNTERS = (
    "connects", "refusals", "sent", "acknowledged", "rejected", "dropped", "commands",
)  # fmt: skip
# One value each: name after `edge_`, help, field of Stats.
GAUGES = (
    ("uptime_seconds", "Time since the daemon's start.", "uptime_s"),
    ("frames_per_second", "Frames whose detector ran, since the last stats.", "frames_per_s"),
    ("temperature_celsius", "Hottest processor zone.", "temperature_c"),
    ("cpu_hertz", "Present clock of the first core.", "cpu_hz"),
    ("load1", "Runnable tasks, mean of the last minute.", "load_1min"),
    ("resident_memory_bytes", "Memory of the daemon that is in RAM.", "rss_bytes"),
)
COUNTERS = (
    ("frames_detected", "Frames whose detector ran.", "detected"),
    ("frames_detected_faster", "Frames whose faster detector ran.", "detected_faster"),
    ("frames_late", "Results handed over after the promised age.", "late"),
    ("colors_shed", "Color crops left out for the budget.", "colors_shed"),
    ("events", "Events handed to the spool.", "events"),
)


class Collector:
    """Makes metrics of what is known at the moment of asking.

    Each has the label `device`: several daemons of one board write files into one folder, and
    node_exporter drops a metric that has the name and labels of another.
    """

    def __init__(self, known: Callable[[], tuple[Info | None, Stats | None]]) -> None:
        self._known = known

    def collect(self) -> Iterator[Metric]:
        """Yield all families; none before the first stats."""
        info, stats = self._known()
        device = {} if info is None else {"device": info.device}
        for family in _families(info, stats):
            family.samples = [
                sample._replace(labels={**device, **sample.labels}) for sample in family.samples
            ]
            yield family


def _families(info: Info | None, stats: Stats | None) -> Iterator[Metric]:
    if info is not None:
        yield _labelled("gauge", "edge_info", "What runs.", ("version",), [((info.version,), 1.0)])
        yield _models(info)
    if stats is not None:
        yield from _simple(stats)
        yield from _frames(stats)
        yield from _cameras(stats)
        yield from _connections(stats)


def _labelled(
    kind: str,
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float | None]],
) -> Metric:
    """Return one family; values that are not known are left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    make: Any = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family: Metric = make(name, text, labels=labels)
    for found, value in values:
        if value is not None:
            family.add_metric(list(found), value)  # type: ignore[attr-defined]
    return family


def _quantiles(
    name: str, text: str, values: Iterable[tuple[dict[str, str], dict[str, float]]]
) -> Metric:
    """Return a summary over the last frames. values: labels, and milliseconds by `p50`, `p95`, ….

    Without sum and count, which would be since the start.
    """
    from prometheus_client.core import Metric

    family = Metric(name, text, "summary")
    for labels, times in values:
        for quantile, ms in times.items():
            share = f"{int(quantile.removeprefix('p')) / 100:g}"
            family.add_sample(name, {**labels, "quantile": share}, ms / 1000)
    return family


def _models(info: Info) -> Metric:
    return _labelled(
        "gauge", "edge_model_info", "Loaded models; pulled: the registry's version.",
        ("role", "name", "version", "pulled", "sha256"),
        [
            ((role, model.name, model.version, model.pulled or "", model.sha256), 1.0)
            for role, model in info.models.items()
        ],
    )  # fmt: skip


def _simple(stats: Stats) -> Iterator[Metric]:
    for name, text, field in GAUGES:
        yield _labelled("gauge", f"edge_{name}", text, (), [((), getattr(stats, field))])
    for name, text, field in COUNTERS:
        yield _labelled("counter", f"edge_{name}", text, (), [((), getattr(stats, field))])


def _frames(stats: Stats) -> Iterator[Metric]:
    yield _labelled(
        "counter", "edge_frames_skipped", "Frames without detection, by cause.", ("cause",),
        [((cause,), count) for cause, count in stats.skipped.items()],
    )  # fmt: skip
    text = "Age of frames when handed over."
    yield _quantiles("edge_latency_seconds", text, [({}, stats.latency_ms)])
    stages = [({"stage": stage}, times) for stage, times in stats.stages_ms.items()]
    yield _quantiles("edge_stage_seconds", "Time of a stage.", stages)


def _cameras(stats: Stats) -> Iterator[Metric]:
    cameras = stats.cameras.items()
    yield _labelled(
        "gauge", "edge_camera_live", "1 while frames come.", ("camera",),
        [((name,), float(camera.state == "live")) for name, camera in cameras],
    )  # fmt: skip
    yield _labelled(
        "gauge", "edge_camera_paused", "1 while paused by command.", ("camera",),
        [((name,), float(camera.paused)) for name, camera in cameras],
    )  # fmt: skip
    yield _labelled(
        "counter", "edge_camera_skipped", "Frames without detection, by cause.",
        ("camera", "cause"),
        [
            ((name, cause), count)
            for name, camera in cameras
            for cause, count in camera.skipped.items()
        ],
    )  # fmt: skip
    for field, text in (
        ("frames", "Frames read."),
        ("detected", "Frames whose detector ran."),
        ("bad_frames", "Damaged frames skipped."),
        ("reconnects", "Attempts to open after the first."),
        ("hung", "Hanging readers abandoned."),
    ):
        yield _labelled(
            "counter", f"edge_camera_{field}", text, ("camera",),
            [((name,), getattr(camera, field)) for name, camera in cameras],
        )  # fmt: skip


def _connections(stats: Stats) -> Iterator[Metric]:
    yield _labelled(
        "gauge", "edge_broker_connected", "1 while connected.", (),
        [((), float(stats.mqtt.is_connected))],
    )  # fmt: skip
    for name in MQTT_COUNTERS:
        text = f"Counter {name} of stats.mqtt."
        yield _labelled("counter", f"edge_mqtt_{name}", text, (), [((), getattr(stats.mqtt, name))])
    spool = stats.spool
    for kind, name, text, value in (
        ("gauge", "waiting", "Events not acknowledged.", spool.waiting),
        ("gauge", "used_bytes", "Size of the spool on disk.", spool.used_bytes),
        ("gauge", "writable", "1 while events can be written to disk.", float(not spool.failure)),
        ("counter", "lost", "Events dropped because the spool was full.", spool.lost),
        ("counter", "written_bytes", "Estimate of bytes written.", spool.written_bytes),
    ):
        yield _labelled(kind, f"edge_spool_{name}", text, (), [((), value)])
