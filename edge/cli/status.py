"""`edge status [CONFIG]`: asks the daemon of this board for its state, over its socket."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge import config_file, status_socket
from edge.errors import EXIT_OK, EXIT_UNHEALTHY, UnavailableError
from edge.messages import CameraHealth, CameraStats, ModelInfo, Report, Stats

EXAMPLES = """examples:
  edge status                       # the daemon of /etc/edge/edge.yaml
  edge status /etc/edge/gate.yaml --json | jq .stats.latency_ms

exit codes: 0 running and well; 3 running with something wrong; 69 no daemon answers;
78 wrong config."""

DEFAULT_CONFIG = config_file.SERVICE_CONFIGS / "edge.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("config", type=Path, nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG")
    parser.add_argument("--json", action="store_true", help="all that is known, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report; raise UnavailableError when no daemon answers."""
    state_dir = config_file.state_dir(config_file.load_of_service(args.config))
    unit = config_file.unit(args.config)
    try:
        answer = status_socket.ask(state_dir)
    except PermissionError:
        raise UnavailableError(f"{state_dir}: no permission to ask; use sudo") from None
    except TimeoutError:
        text = f"the daemon in {state_dir} hangs; restart it: systemctl restart {unit}"
        raise UnavailableError(text) from None
    if answer is None:
        text = f"no daemon answers in {state_dir}; start it: systemctl start {unit}"
        raise UnavailableError(text)
    try:
        report = msgspec.json.decode(answer, type=Report)
    except msgspec.MsgspecError:
        raise UnavailableError(f"{state_dir}: the daemon is of another version") from None
    faults = list(faults_of(report, args.config))
    if args.json:
        print(answer.decode())
    else:
        print("\n".join([*lines_of(report), *(f"WRONG: {fault}" for fault in faults)]))
    return EXIT_UNHEALTHY if faults else EXIT_OK


def faults_of(report: Report, config: Path) -> Iterator[str]:
    """Yield each fault with the place to look at; config: the daemon's file."""
    if not report.health.cameras:
        yield "it is still starting; ask again"
    elif report.health.status != "ok":
        yield f"no progress; see journalctl -u {config_file.unit(config)}"
    for name, camera in report.health.cameras.items():
        if camera.state in {"lost", "ended"}:
            yield f"camera {name} {camera.state}; run edge doctor {config}"
    if report.stats is None:
        return
    if not report.stats.mqtt.is_connected:
        yield f"broker {report.stats.mqtt.state}; events wait in the spool"
    if report.stats.spool.failure:
        yield f"spool: {report.stats.spool.failure}; make room or repair the disk"
    if report.stats.spool.lost:
        yield f"{report.stats.spool.lost} events lost since the start; see the topic lost"


def lines_of(report: Report) -> Iterator[str]:
    """Yield the report's lines for people."""
    if report.info is not None:
        models = ", ".join(_model(model) for model in report.info.models.values())
        yield f"device    {report.info.device}, edge {report.info.version}, {models}"
    known = report.stats.cameras if report.stats is not None else {}
    for name, camera in report.health.cameras.items():
        yield f"camera    {name} {_camera(camera, known.get(name) if len(known) > 1 else None)}"
    if not report.health.cameras:
        yield "camera    not opened yet"
    if report.stats is not None:
        yield from _stats_lines(report.stats)


def _camera(camera: CameraHealth, stats: CameraStats | None) -> str:
    age = camera.frame_age_s
    frame = "no frame yet" if age is None else f"newest frame {age:.1f} s ago"
    paused = ", paused: the command resume ends it" if camera.paused else ""
    rate = "" if stats is None else f", {stats.frames_per_s:g} a second detected"
    return f"{camera.state}, {frame}{rate}{paused}"


def _model(model: ModelInfo) -> str:
    pulled = "" if model.pulled is None else f" (pulled as {model.pulled})"
    return f"{model.name} {model.version}{pulled}"


def _stats_lines(stats: Stats) -> Iterator[str]:
    skipped = ", ".join(f"{cause} {n}" for cause, n in stats.skipped.items() if n) or "none"
    faster = f", {stats.detected_faster} by the faster model" if stats.detected_faster else ""
    yield f"frames    {stats.frames_per_s:g} a second detected, {stats.detected} so far{faster}"
    yield f"skipped   {skipped}"
    degraded = f", degraded: {stats.degraded}" if stats.degraded else ""
    latency = ", ".join(f"{name} {ms:g} ms" for name, ms in stats.latency_ms.items())
    yield f"latency   {latency or 'not known yet'}{degraded}"
    yield f"broker    {stats.mqtt.state}, {stats.mqtt.acknowledged} events acknowledged"
    yield f"spool     {stats.spool.waiting} waiting, {stats.spool.lost} lost"
    memory = "?" if stats.rss_bytes is None else f"{stats.rss_bytes / 1e6:.0f}"
    warmth = "?" if stats.temperature_c is None else f"{stats.temperature_c:.0f}"
    yield f"board     {warmth} °C, {memory} MB, up {stats.uptime_s:.0f} s"
