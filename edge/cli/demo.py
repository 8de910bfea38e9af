"""`edge demo`: the real daemon on a clip or your camera, and a subscriber's view of it.

An embedded broker listens on a free port of the loopback. The daemon runs as a separate process
and publishes to it over TCP. This process subscribes like any other client.
"""

from __future__ import annotations

import argparse
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec
import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge.broker import LOOPBACK, EmbeddedBroker
from edge.capture import redact
from edge.config import BudgetConfig, TrackerConfig
from edge.errors import EXIT_FAILURE, EXIT_OK, EdgeError
from edge.messages import Event, Stats, Topics

EXAMPLES = """examples:
  edge demo                               # the clip that ships with edge
  edge demo --source 0                    # first camera, until Ctrl-C
  edge demo --source rtsp://camera/stream --seconds 30
  edge demo --budget-ms 8 --faster-model yolox-nano-288   # what a slow board would do"""

CLIP = Path(__file__).resolve().parent.parent / "assets" / "demo.mp4"
TOPICS = Topics("edge", "demo")
CAMERA = "demo"
STOP_S = 10.0


@dataclass(slots=True)
class Seen:
    """What the subscriber received."""

    events: int = 0
    ids: set[str] = field(default_factory=set)
    first_event_s: float | None = None
    stats: Stats | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--source", default=str(CLIP), metavar="SOURCE", help="default: the clip")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="stop after this time")
    parser.add_argument(
        "--budget-ms", type=_budget_ms, default=200, metavar="MS", help="default: 200"
    )
    parser.add_argument(
        "--faster-model", metavar="NAME", help="runs on the frames whose budget the default misses"
    )


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _budget_ms(text: str) -> float:
    """Return a value that the daemon accepts as `budget.frame_ms`."""
    try:
        return msgspec.convert({"frame_ms": _positive(text)}, BudgetConfig).frame_ms
    except msgspec.ValidationError as error:
        limit = str(error).partition(" - at ")[0]
        raise argparse.ArgumentTypeError(f"{text!r}: {limit}") from None


def run(args: argparse.Namespace) -> int:
    """Return 0 when events arrived through MQTT, else 1 or the daemon's exit code."""
    # A closed terminal or `kill` acts like Ctrl-C: the daemon must not outlive this process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="edge-demo-") as folder, EmbeddedBroker() as broker:
        config = _write_config(Path(folder), args, broker.port)
        print(f"broker on {LOOPBACK}:{broker.port}; daemon on {redact(args.source)}\n{_HEADER}")
        with _subscription(broker.port) as inbox, _daemon(config) as daemon:
            seen = _watch(daemon, inbox, args.seconds)
    return _conclude(seen, daemon.returncode)


def _write_config(folder: Path, args: argparse.Namespace, port: int) -> Path:
    path = folder / "edge.yaml"
    content = {
        "device": TOPICS.device,
        "state_dir": str(folder),
        # amqtt does not answer an MQTT 5 CONNECT, so `auto` would first wait for the time-out.
        "mqtt": {"host": LOOPBACK, "port": port, "protocol": "3.1.1"},
        "budget": {"frame_ms": args.budget_ms},
        "cameras": {CAMERA: {"source": args.source}},
        "detector": {"faster_model": args.faster_model},
        "publish": {"stats_interval_s": 2.0},
        "log": {"level": "warning"},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def _daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `edge run` as a separate process; stop it at the end.

    It has its own process group, so that Ctrl-C in a terminal reaches only this process.
    """
    command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
    process = subprocess.Popen(command, process_group=0)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _subscription(port: int) -> Iterator[SimpleQueue[mqtt.MQTTMessage]]:
    """Yield a queue of all messages from the demo's device."""
    inbox: SimpleQueue[mqtt.MQTTMessage] = SimpleQueue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe(f"{TOPICS.base}/#", qos=1)
    client.on_message = lambda _client, _data, message: inbox.put(message)
    client.connect(LOOPBACK, port)
    client.loop_start()
    try:
        yield inbox
    finally:
        client.disconnect()
        client.loop_stop()


def _watch(
    daemon: subprocess.Popen[bytes],
    inbox: SimpleQueue[mqtt.MQTTMessage],
    seconds: float | None,
) -> Seen:
    """Print events until the daemon ends, the time is over, or Ctrl-C."""
    seen = Seen()
    started_s = time.monotonic()
    try:
        while daemon.poll() is None:
            if seconds is not None and time.monotonic() - started_s > seconds:
                break
            _handle_next(inbox, seen, started_s, timeout_s=0.2)
    except KeyboardInterrupt:
        print()
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_S
    while _handle_next(inbox, seen, started_s, timeout_s=0.5) or daemon.poll() is None:
        if time.monotonic() > deadline_s:
            break
    return seen


def _handle_next(
    inbox: SimpleQueue[mqtt.MQTTMessage], seen: Seen, started_s: float, *, timeout_s: float
) -> bool:
    """Handle one message; return False when none arrived in time."""
    try:
        message = inbox.get(timeout=timeout_s)
    except Empty:
        return False
    if message.topic == TOPICS.of("stats"):
        seen.stats = msgspec.json.decode(message.payload, type=Stats)
    elif message.topic == TOPICS.camera(CAMERA, "events"):
        event = msgspec.json.decode(message.payload, type=Event)
        seen.events += 1
        seen.ids.add(event.id)
        if seen.first_event_s is None:
            seen.first_event_s = time.monotonic() - started_s
        print(_event_line(event))
    return True


_HEADER = (
    f"{'event':<7}{'object':<18}{'label':<11}{'score':>6}  {'box (px)':<19}"
    f"{'color':<18}{'frame age':>10}{'received':>10}"
)


def _event_line(event: Event) -> str:
    captured = datetime.fromisoformat(event.captured_utc)
    received_ms = 1000 * (datetime.now(tz=UTC) - captured).total_seconds()
    box = event.box_px
    colors = " ".join(f"{color.name} {color.score:.2f}" for color in event.colors[:1])
    corners = f"{box.x:.0f},{box.y:.0f} {box.w:.0f}x{box.h:.0f}"
    return (
        f"{event.kind:<7}{event.id.split('-', 1)[1]:<18}{event.label:<11}{event.score:>6.2f}  "
        f"{corners:<19}{colors:<18}{event.latency_ms:>7.1f} ms{received_ms:>7.1f} ms"
    )


def _conclude(seen: Seen, returncode: int | None) -> int:
    if seen.stats is not None:
        _print_summary(seen, seen.stats)
    if returncode not in (0, None, -signal.SIGTERM):  # the last: stopped during its start
        return int(returncode) if returncode > 0 else EXIT_FAILURE
    if not seen.events:
        raise EdgeError(f"no event arrived through MQTT; {_why_no_event(seen.stats)}")
    return EXIT_OK


def _why_no_event(stats: Stats | None) -> str:
    """Return why there was no event, or a question that helps to find out."""
    frames = stats.cameras[CAMERA].frames if stats else 0
    if not frames:
        return "no frame came from the source: see above, or give it more --seconds"
    if frames < TrackerConfig().min_hits:
        return "so few frames make no object; edge infer looks at single pictures"
    return "does the source show people or vehicles?"


def _print_summary(seen: Seen, stats: Stats) -> None:
    frames = sum(camera.frames for camera in stats.cameras.values())
    skipped = ", ".join(f"{cause} {count}" for cause, count in stats.skipped.items())
    faster = f" ({stats.detected_faster} by the faster model)" if stats.detected_faster else ""
    print(f"\nframes {frames}: detected {stats.detected}{faster}; skipped by cause: {skipped}")
    print(f"{'stage, ms':<14}{'p50':>8}{'p95':>8}{'p99':>8}")
    for stage, row in {**stats.stages_ms, "frame age": stats.latency_ms}.items():
        if row:
            print(f"{stage:<14}{row['p50']:>8.2f}{row['p95']:>8.2f}{row['p99']:>8.2f}")
    first = f"; first event {seen.first_event_s:.1f} s after the start" if seen.events else ""
    print(
        f"late results {stats.late}, color crops shed {stats.colors_shed}; "
        f"memory {(stats.rss_bytes or 0) / 1e6:.0f} MB{first}"
    )
    print(f"{seen.events} events of {len(seen.ids)} objects arrived through MQTT")
