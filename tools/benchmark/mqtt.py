"""`edge-tools benchmark-mqtt`: events per second and latency, against bare paho at QoS 1.

Method: a mosquitto on the loopback interface, one subscriber at QoS 1 in this process, and one
sender at a time in a new process (`tools.benchmark.mqtt_sender`). Throughput: events are sent as
fast as the broker acknowledges; timed from the first one sent to the last one received. Latency:
events are sent evenly at `--rate`; timed from sending to the subscriber's callback. The senders
alternate for `--rounds`, so that other load affects all equally; medians of the rounds are
reported. It is an error if an event is lost.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import EXIT_OK, EdgeError, UsageError
from tools import child, json_file
from tools.arguments import count, option, positive
from tools.benchmark import machine
from tools.benchmark.mqtt_sender import EVENTS, WAYS
from tools.benchmark.quantiles import quantiles
from tools.soak import Broker

EXAMPLES = """examples:
  edge-tools benchmark-mqtt
  edge-tools benchmark-mqtt --events 20000 --rate 10 --seconds 60 --json mqtt.json"""
ROOM = "max_queued_messages 0\nmax_inflight_messages 0\n"  # unlimited: the broker drops nothing
TIMEOUT_S = 120.0


class _Event(msgspec.Struct):
    handed_s: float


class Receiver:
    """Counts received events and their latencies."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.clear()

    def clear(self) -> None:
        """Reset count and latencies."""
        with self._changed:
            self.latencies_ms: list[float] = []
            self.first_s, self.last_s = float("inf"), 0.0

    def on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        """Count one event; called in paho's thread."""
        now_s = time.monotonic()
        handed_s = msgspec.json.decode(message.payload, type=_Event).handed_s
        with self._changed:
            self.latencies_ms.append(1000 * (now_s - handed_s))
            self.first_s, self.last_s = min(self.first_s, handed_s), now_s
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Wait until `count` events have arrived; EdgeError if they do not in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.latencies_ms) >= count, TIMEOUT_S):
                raise EdgeError(f"{len(self.latencies_ms)} of {count} events came")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    option(parser, "--events", count, 5000, "at full speed", metavar="N")
    option(parser, "--rate", positive, 50, "for the latency", metavar="HZ")
    option(parser, "--seconds", positive, 10, "at that rate", metavar="S")
    option(parser, "--rounds", count, 3, "rounds of each sender", metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save the numbers")


def run(args: argparse.Namespace) -> int:
    """Print one row per sender."""
    if args.rate * args.seconds < 1:
        raise UsageError("--rate and --seconds give less than one event; give larger ones")
    facts = machine.read()
    machine.show(facts)
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with (
        tempfile.TemporaryDirectory(prefix="edge-mqtt-") as folder,
        Broker(Path(folder), settings=ROOM) as broker,
        _subscribed(broker.port) as receiver,
    ):
        for number in range(args.rounds):
            for way in WAYS:
                scratch = Path(folder) / f"{number}-{way}"
                rounds[way].append(_round(way, broker.port, receiver, scratch, args))
    rows = [{"way": way, **_median(rounds[way])} for way in WAYS]
    _show(rows)
    if args.json:
        json_file.write({"machine": facts, "rows": rows}, args.json, indent=1)
    return EXIT_OK


def _round(
    way: str, port: int, receiver: Receiver, scratch: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """Return one sender's throughput, and latency quantiles at the given rate."""
    _send(way, port, receiver, scratch / "full", args.events, 0.0)
    per_s = args.events / (receiver.last_s - receiver.first_s)
    _send(way, port, receiver, scratch / "rate", int(args.rate * args.seconds), args.rate)
    return {"events_per_s": per_s, **quantiles(receiver.latencies_ms)}


def _send(
    way: str, port: int, receiver: Receiver, scratch: Path, count: int, rate_hz: float
) -> None:
    """Send from a new process and wait for all events; EdgeError if it fails."""
    scratch.mkdir(parents=True)
    receiver.clear()
    words = [way, str(port), str(count), str(rate_hz), str(scratch)]
    command = [sys.executable, "-m", "tools.benchmark.mqtt_sender", *words]
    child.output_of(command, way, timeout_s=TIMEOUT_S + count / (rate_hz or 100))
    receiver.wait(count)


@contextmanager
def _subscribed(port: int) -> Iterator[Receiver]:
    """Yield a receiver subscribed to all events; EdgeError if the broker does not answer."""
    receiver, ready = Receiver(), threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "sub", protocol=MQTTProtocolVersion.MQTTv5)

    def subscribe(*_: Any) -> None:
        client.subscribe(EVENTS, qos=1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = receiver.on_message
    client.reconnect_delay_set(1, 1)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    try:
        if not ready.wait(30):
            raise EdgeError("mosquitto does not answer")
        yield receiver
    finally:
        client.disconnect()
        client.loop_stop()


def _median(rounds: list[dict[str, Any]]) -> dict[str, float]:
    return {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]}


def _show(rows: list[dict[str, Any]]) -> None:
    """Print the medians, and each as a multiple of paho's."""
    print(f"\n{'way':<14}{'events/s':>10}{'of paho':>9}{'ms p50':>9}{'p95':>9}{'p99':>9}", end="")
    print(f"{'p99 of paho':>13}")
    paho = rows[0]
    for row in rows:
        print(f"{row['way']:<14}{row['events_per_s']:>10.0f}", end="")
        print(f"{row['events_per_s'] / paho['events_per_s']:>9.2f}", end="")
        print("".join(f"{row[name]:>9.2f}" for name in ("p50", "p95", "p99")), end="")
        print(f"{row['p99'] / paho['p99']:>13.2f}")
