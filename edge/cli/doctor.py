"""`edge doctor [CONFIG]`: checks everything the daemon depends on, one line each, with the fix.

Only one program can open a camera, so it asks a running daemon for the camera's state. Without a
daemon it opens the camera itself.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec
from paho.mqtt.enums import MQTTProtocolVersion

from edge import config_file, status_socket
from edge.budget import Governor
from edge.capture import Camera
from edge.cli.check.config import check_settings
from edge.cli.status import DEFAULT_CONFIG
from edge.config import CameraConfig, Config
from edge.errors import EXIT_OK, EXIT_UNHEALTHY, EdgeError, one_line
from edge.health import is_clock_synchronized, read_condition, read_throttling
from edge.messages import CameraStats, Message, Report, Topics
from edge.publisher import options
from edge.publisher.connection import Connection, ConnectionEndedError, EndKind, Handlers, Waker
from edge.service.parts import build_models, is_saving, load_interpreters, warm

EXAMPLES = """examples:
  edge doctor                       # of /etc/edge/edge.yaml
  edge doctor gate.yaml --json

exit codes: 0 nothing failed (warnings do not count); 3 something failed; 78 wrong config."""

AT_ONCE = 4  # cameras, each in a process of 80 MB
ASK_S = 0.1  # how often a camera is asked whether its first attempt failed
WARM_C = 75.0
HOT_C = 82.0  # a Raspberry Pi throttles at 80 to 85
BUDGET_FIXES = {
    "budget": "name a smaller detector.faster_model, or raise budget.frame_ms",
    "thermal": "cool the board",
    "load": "other programs use the processor: see top",
}
BROKER_FIXES = {
    EndKind.LOST: "check mqtt.host, port and network",
    EndKind.REFUSED: "check mqtt.username, its password, and TLS",
    EndKind.UNSUPPORTED: "is it a broker, and does it run?",
}


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check; `fix` says what to do when it is not ok."""

    level: Level
    text: str
    fix: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("config", type=Path, nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print each finding as it is made; raise ConfigError when the config itself is wrong."""
    config = config_file.load_of_service(args.config)
    findings: dict[str, Finding] = {}
    for name, check in checks(config_file.unit(args.config)).items():
        findings[name] = finding = _run_check(check, config)
        if not args.json:
            fix = f"; {finding.fix}" if finding.fix else ""
            print(f"{finding.level:<4}  {name:<11} {finding.text}{fix}", flush=True)
    if args.json:
        print(msgspec.json.encode(findings).decode())
    is_failed = any(finding.level is Level.FAIL for finding in findings.values())
    return EXIT_UNHEALTHY if is_failed else EXIT_OK


def _run_check(check: Callable[[Config], Finding], config: Config) -> Finding:
    """Return a check's finding; an error, which names the fix, becomes a finding too."""
    try:
        return check(config)
    except PermissionError as error:
        return Finding(Level.FAIL, f"{error.filename}: no permission to look", "use sudo")
    except (EdgeError, OSError) as error:
        return Finding(Level.FAIL, one_line(error))


def _ask_daemon(config: Config) -> Report | None:
    """Return a running daemon's report, None when none answers."""
    try:
        return _report(config)
    except TimeoutError:
        return None


def _report(config: Config) -> Report | None:
    """Return a running daemon's report, None when there is none; TimeoutError when it hangs."""
    try:
        answer = status_socket.ask(config_file.state_dir(config))
        return msgspec.json.decode(answer, type=Report) if answer else None
    except (PermissionError, msgspec.MsgspecError):
        return None


def check_config(config: Config) -> Finding:
    """Return whether the daemon would start with the files and extras that the config needs."""
    check_settings(config)
    return Finding(Level.OK, "its files and extras are there")


def check_daemon(config: Config, unit: str) -> Finding:
    """Return whether a daemon runs on this config."""
    try:
        report = _report(config)
    except TimeoutError:
        return Finding(Level.FAIL, "runs, but does not answer", f"systemctl restart {unit}")
    if report is None:
        return Finding(Level.WARN, "not running, or not yours to ask", f"systemctl start {unit}")
    if report.health.status != "ok":
        return Finding(Level.FAIL, "runs, but makes no progress", f"systemctl restart {unit}")
    return Finding(Level.OK, "runs")


def check_camera(config: Config, unit: str) -> Finding:
    """Return whether every camera delivers frames; of several, it names those at fault."""
    report = _ask_daemon(config)
    known = {} if report is None else report.health.cameras
    tried = {name: camera for name, camera in config.cameras.items() if name not in known}
    findings = [_told(name, known[name].state, unit) for name in config.cameras if name in known]
    findings += _all_tried(tried) if len(tried) > 1 else map(_tried, tried, tried.values())
    worst = max(findings, key=lambda finding: [*Level].index(finding.level))
    shown = [finding.text for finding in findings if finding.level is worst.level]
    return Finding(worst.level, "; ".join(shown), worst.fix)


def _told(name: str, state: str, unit: str) -> Finding:
    """Return what a daemon said of a camera."""
    text = f"{name}: {state}, says the daemon"
    if state == "live":
        return Finding(Level.OK, text)
    if state == "opening":
        return Finding(Level.WARN, text, "ask again in a few seconds")
    return Finding(Level.FAIL, text, f"check cable, address, power; see journalctl -u {unit}")


def _all_tried(cameras: Mapping[str, CameraConfig]) -> list[Finding]:
    """Return what `_tried` returns of each, from processes: OpenCV opens one stream at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(AT_ONCE, len(cameras)), context, logging.disable) as pool:
        findings = [*pool.map(_tried, cameras, cameras.values())]
        for process in multiprocessing.active_children():  # a hanging reader may not let them end
            process.kill()
    return findings


def _tried(name: str, config: CameraConfig) -> Finding:
    """Return whether a camera delivers a frame to this process, at the first attempt."""
    ends_s = time.monotonic() + config.open_timeout_s + config.read_timeout_s
    try:
        with Camera(name, config) as camera:
            frame = camera.take(ASK_S)
            while frame is None and not camera.status.reason and time.monotonic() < ends_s:
                frame = camera.take(ASK_S)
            reason = camera.status.reason or "no frame in time"
    except EdgeError as error:
        return Finding(Level.FAIL, f"{name}: {one_line(error)}")
    if frame is None:
        return Finding(Level.FAIL, f"{name}: {reason}", "check cable, address and power")
    width, height = frame.size
    return Finding(Level.OK, f"{name}: gives {width}x{height}")


def check_models(config: Config) -> Finding:
    """Return whether all models load, agree with their manifests, and a faster one is faster."""
    interpreters = load_interpreters(config)
    models = build_models(interpreters, config)
    text = ", ".join(model.manifest.name for model in interpreters.values())
    if config.detector.faster_model is not None:
        ms = warm(models, Governor(config.budget.frame_ms, time.monotonic))
        text += f"; detector {ms['detector']:.1f} ms, faster_model {ms['faster_detector']:.1f} ms"
        if not is_saving(ms):
            return Finding(Level.WARN, text, "name a smaller detector.faster_model")
    return Finding(Level.OK, text)


def check_budget(config: Config) -> Finding:
    """Return whether of each camera more frames are detected than skipped for the budget."""
    report = _ask_daemon(config)
    if report is None or report.stats is None:
        return Finding(Level.OK, "how well it is kept shows while the daemon runs")
    stats = report.stats
    skipped = {name: _skipped_for_budget(camera) for name, camera in stats.cameras.items()}
    starved = [name for name, camera in stats.cameras.items() if skipped[name] > camera.detected]
    text = (
        f"{stats.detected} frames detected, {sum(skipped.values())} skipped, "
        f"for {config.budget.frame_ms:g} ms"
    )
    if not stats.degraded or not starved:
        return Finding(Level.OK, text)
    if len(skipped) > 1:
        text += f"; of {', '.join(starved)} most are skipped"
    return Finding(Level.WARN, text, BUDGET_FIXES.get(stats.degraded, ""))


def _skipped_for_budget(camera: CameraStats) -> int:
    return sum(camera.skipped.get(cause, 0) for cause in ("budget", "thermal"))


def check_broker(config: Config) -> Finding:
    """Return whether the broker answers and accepts the login."""
    where = f"{config.mqtt.host}:{config.mqtt.port}"
    end = None
    for protocol in options.PROTOCOLS[config.mqtt.protocol]:
        end = _login(config, protocol)
        if end is None or end.kind is not EndKind.UNSUPPORTED:
            break
    if end is None:
        return Finding(Level.OK, f"{where} takes the login")
    reason = one_line(end.reason if where in end.reason else f"{where}: {end.reason}")
    if end.kind is EndKind.REFUSED and _is_connected(_ask_daemon(config)):
        fix = "is the password only in the service's environment or credentials?"
        return Finding(Level.WARN, f"{reason}, but the daemon is connected", fix)
    return Finding(Level.FAIL, reason, BROKER_FIXES[end.kind])


def _is_connected(report: Report | None) -> bool:
    """Return whether a daemon says that the broker accepted it."""
    stats = report.stats if report else None
    return stats is not None and stats.mqtt.is_connected


def _login(config: Config, protocol: MQTTProtocolVersion) -> ConnectionEndedError | None:
    """Connect as the daemon does; return why that failed, None when the login was accepted.

    Raises ConfigError for an unusable file of the `mqtt` section.
    """
    topics = Topics(config.mqtt.prefix, config_file.device_name(config))
    # Not the daemon's client id: the broker would end its connection.
    identity = options.Identity(f"{topics.device}-doctor", Message(topics.response("doctor"), b""))
    handlers = Handlers(lambda *_: None, lambda _: None, lambda *_: None)
    connection = Connection(config.mqtt, identity, protocol, handlers)
    with contextlib.closing(Waker()) as waker:
        try:
            connection.open(waker, lambda: False)
            connection.close()
        except ConnectionEndedError as error:
            connection.abort()
            return error
    return None


def check_permissions(config: Config) -> Finding:
    """Return whether this user may write the state directory and open the video devices."""
    state_dir = config_file.state_dir(config)
    if not os.access(_nearest(state_dir), os.W_OK | os.X_OK):
        return Finding(Level.FAIL, f"may not write {state_dir}", "set state_dir, or its owner")
    closed = [str(p) for p in Path("/dev").glob("video*") if not os.access(p, os.R_OK | os.W_OK)]
    if closed:
        fix = "add the user to group video"
        return Finding(Level.WARN, f"may not open {', '.join(sorted(closed)[:3])}", fix)
    return Finding(Level.OK, f"may write {state_dir}")


def check_disk(config: Config) -> Finding:
    """Return whether the disk has room for the spool's configured size."""
    state_dir = config_file.state_dir(config)
    free_bytes = shutil.disk_usage(_nearest(state_dir)).free
    text = f"{free_bytes / 1e6:,.0f} MB free for {state_dir}"
    if free_bytes < config.spool.max_bytes / 8:
        return Finding(Level.FAIL, text, "make room, or events are lost while the broker is away")
    if free_bytes < 2 * config.spool.max_bytes:
        return Finding(Level.WARN, text, "make room, or set a smaller spool.max_bytes")
    return Finding(Level.OK, text)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the first one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_clock(_config: Config) -> Finding:
    """Return whether the wall clock is synchronized."""
    is_synced = is_clock_synchronized()
    if is_synced is None:
        fix = "let systemd-timesyncd or chrony run"
        return Finding(Level.WARN, "synchronization unknown", fix)
    if not is_synced:
        fix = "check the network; events carry clock_synced false"
        return Finding(Level.WARN, "not synchronized since boot", fix)
    return Finding(Level.OK, "synchronized")


def check_temperature(_config: Config) -> Finding:
    """Return how warm the processor is."""
    warmth_c = read_condition().temperature_c
    if warmth_c is None:
        return Finding(Level.OK, "not reported by this board")
    level = Level.FAIL if warmth_c >= HOT_C else Level.WARN if warmth_c >= WARM_C else Level.OK
    return Finding(level, f"{warmth_c:.0f} °C", "" if level is Level.OK else "cool the board")


def check_throttling(_config: Config) -> Finding:
    """Return whether the board's firmware throttles the processor."""
    throttling = read_throttling()
    if throttling is None:
        return Finding(Level.OK, "not reported by this board")
    fix = "use a better power supply and cable, and cool the board"
    if throttling.now:
        return Finding(Level.FAIL, f"now: {', '.join(throttling.now)}", fix)
    if throttling.before:
        return Finding(Level.WARN, f"since boot: {', '.join(throttling.before)}", fix)
    return Finding(Level.OK, "none since boot")


def checks(unit: str) -> dict[str, Callable[[Config], Finding]]:
    """Return all checks by name, in order. unit: the systemd unit of the daemon."""
    return {
        "config": check_config,
        "daemon": partial(check_daemon, unit=unit),
        "camera": partial(check_camera, unit=unit),
        "models": check_models,
        "budget": check_budget,
        "broker": check_broker,
        "permissions": check_permissions,
        "disk": check_disk,
        "clock": check_clock,
        "temperature": check_temperature,
        "throttling": check_throttling,
    }
