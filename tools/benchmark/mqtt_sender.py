"""The sending process of `edge-tools benchmark-mqtt`.

Senders: `paho` is a bare client at QoS 1 with its own network thread; `edge` is the daemon's spool
and publisher with default settings; `edge-on-disk` commits each batch to disk at once, even if it
is acknowledged soon. All have the same number of events in flight and pause while WAITING events
are unacknowledged. An event contains the monotonic time (s) at which it was sent.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.config import MqttConfig, SpoolConfig
from edge.messages import Status, Topics
from edge.publisher import ConnectionState, Publisher
from edge.spool import Spool

WAYS = ("paho", "edge", "edge-on-disk")
TOPICS = Topics("edge", "bench")
EVENTS = TOPICS.camera("front", "events")
WAITING = 500
PADDING = "x" * 470  # makes a message as long as an event with one object: about 520 bytes
TIMEOUT_S = 60.0


class Sender:
    """A way to send events. put: sends one. waiting: number of unacknowledged ones."""

    def __init__(self, put: Callable[[bytes], object], waiting: Callable[[], int]) -> None:
        self.put = put
        self.waiting = waiting


def send(sender: Sender, count: int, rate_hz: float) -> None:
    """Send `count` events, evenly at a rate (0: as fast as they are acknowledged).

    Raises SystemExit when the broker does not acknowledge in time.
    """
    pause = threading.Event()
    begin_s = time.monotonic()
    for number in range(count):
        if rate_hz:
            pause.wait(max(0.0, begin_s + number / rate_hz - time.monotonic()))
        _wait_below(sender, WAITING)
        sender.put(b'{"handed_s":%.6f,"pad":"%s"}' % (time.monotonic(), PADDING.encode()))
    _wait_below(sender, 1)


def _wait_below(sender: Sender, limit: int) -> None:
    until_s = time.monotonic() + TIMEOUT_S
    while sender.waiting() >= limit:
        time.sleep(0.001)
        if time.monotonic() > until_s:
            raise SystemExit("the broker does not acknowledge")


@contextmanager
def edge_sender(port: int, folder: Path, config: SpoolConfig) -> Iterator[Sender]:
    """Yield a sender that uses the daemon's spool and publisher."""
    birth = Status(status="online", boot_id="bench", version="0")
    settings = MqttConfig(host="127.0.0.1", port=port, discovery=False)
    with (
        Spool(folder / "spool.sqlite", config, boot_id="bench") as spool,
        Publisher(settings, TOPICS, spool, birth) as publisher,
    ):
        until_s = time.monotonic() + TIMEOUT_S
        while publisher.state[0] is not ConnectionState.CONNECTED:
            time.sleep(0.01)
            if time.monotonic() > until_s:
                raise SystemExit(f"no connection: {publisher.state[1]}")
        yield Sender(
            lambda body: publisher.publish_event(EVENTS, body), lambda: spool.counters().waiting
        )


@contextmanager
def paho_sender(port: int) -> Iterator[Sender]:
    """Yield a sender that uses a bare paho client."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "bench", protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(MqttConfig().max_in_flight)
    lock, waiting = threading.Lock(), [0]

    def count(change: int) -> None:
        with lock:
            waiting[0] += change

    def put(body: bytes) -> None:
        count(1)
        client.publish(EVENTS, body, qos=1)

    client.on_publish = lambda *_: count(-1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield Sender(put, lambda: waiting[0])
    finally:
        client.disconnect()
        client.loop_stop()


def main(way: str, port: str, count: str, rate_hz: str, folder: str) -> None:
    """Send events; all arguments are strings from the command line."""
    if way == "paho":
        sending = paho_sender(int(port))
    else:
        config = SpoolConfig() if way == "edge" else SpoolConfig(commit_interval_s=0)
        sending = edge_sender(int(port), Path(folder), config)
    with sending as sender:
        send(sender, int(count), float(rate_hz))


if __name__ == "__main__":
    main(*sys.argv[1:])
