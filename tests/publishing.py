"""Shared by tests of the publisher: topics, event bodies, and a way to start one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from edge.config import MqttConfig, SpoolConfig
from edge.messages import BoxBody, Event, EventBody, Status, Topics, encode
from edge.publisher import ConnectionState, Publisher
from edge.spool import Spool
from mosquitto import LOOPBACK, Received
from spooling import accepting
from waiting import wait_until

TOPICS = Topics("edge", "gate")
EVENTS = TOPICS.camera("front", "events")
STATUS = TOPICS.of("status")
DEFAULT_SPOOL = SpoolConfig()
CHILD = Path(__file__).with_name("publisher_child.py")
both_protocols = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


class Start(Protocol):
    """Starts a publisher on a spool of its own; both end with the test."""

    def __call__(
        self, port: int, *, spool: SpoolConfig = ..., **settings: Any
    ) -> tuple[Publisher, Spool]: ...


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """A `Start` that keeps its spool in a folder."""
    with ExitStack() as stack:

        def start(
            port: int, *, spool: SpoolConfig = DEFAULT_SPOOL, **settings: Any
        ) -> tuple[Publisher, Spool]:
            queue = stack.enter_context(Spool(folder / "spool.sqlite", spool, boot_id="boot-1"))
            birth = Status(status="online", boot_id="boot-1", version="1")
            settings = {"host": LOOPBACK, "retry_min_s": 0.05, "retry_max_s": 0.2, **settings}
            config = MqttConfig(port=port, **settings)
            return stack.enter_context(Publisher(config, TOPICS, queue, birth)), queue

        yield start


def body(number: int, size: int = 0) -> bytes:
    box = BoxBody(x=0.1, y=0.2, w=0.3, h=0.4)
    return encode(
        EventBody(
            id=f"gate-{number}", kind="new", camera="front", frame_id=number, label="person",
            score=0.9, best_score=0.9, box=box, box_px=box, frame_size=(640, 480), colors=(),
            zones=("x" * size,), captured_utc="2026-11-22T12:00:00.000Z", clock_synced=None,
            duration_s=1.0, latency_ms=12.5, stages_ms={"detector": 9.0},
        )
    )  # fmt: skip


def overfill(publisher: Publisher, spool: Spool) -> None:
    """Publish more events than a spool of 64 KiB holds: the oldest are lost."""
    for number in range(400):
        publisher.publish_event(EVENTS, body(number))
        if number % 40 == 0:
            assert spool.flush(10)
    assert spool.flush(10)


def events(received: list[Received]) -> list[Event]:
    return [msgspec.json.decode(r.payload, type=Event) for r in received if r.topic == EVENTS]


def seqs(received: list[Received]) -> list[int]:
    return [event.seq for event in events(received)]


def wait_connected(publisher: Publisher) -> None:
    wait_until(lambda: publisher.state[0] is ConnectionState.CONNECTED)


def wait_acknowledged(spool: Spool, timeout_s: float = 20) -> None:
    wait_until(lambda: spool.counters().waiting == 0, timeout_s)


def start_child(port: int, protocol: str, folder: Path, boot_id: str) -> subprocess.Popen[str]:
    return accepting(CHILD, str(port), protocol, str(folder / "spool.sqlite"), boot_id)
