"""The demo's broker, used as the demo uses it: real clients over TCP."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from edge.broker import LOOPBACK, EmbeddedBroker
from edge.config import MqttConfig, SpoolConfig
from edge.errors import UnavailableError
from edge.messages import Status, Topics
from edge.publisher import ConnectionState, Publisher
from edge.spool import Spool
from mosquitto import Subscriber

pytest.importorskip("amqtt")


def test_events_and_will_reach_a_subscriber(
    tmp_path: Path,
) -> None:
    birth = Status(status="online", boot_id="boot-1", version="1")
    with (
        EmbeddedBroker() as broker,
        Subscriber(broker.port, is_mqtt5=False) as subscriber,
        Spool(tmp_path / "spool.sqlite", SpoolConfig(), boot_id="boot-1") as spool,
        Publisher(
            MqttConfig(host=LOOPBACK, port=broker.port, protocol="3.1.1"),
            Topics("edge", "demo"),
            spool,
            birth,
        ) as publisher,
    ):
        for number in range(50):
            publisher.publish_event("edge/demo/front/events", b'{"n":%d}' % number)
        got = subscriber.wait_for_topic("edge/demo/front/events", 50)
        starts = [b'{"n":%d,"seq":%d,' % (n, n + 1) for n in range(50)]
        assert [r.payload[: len(start)] for r, start in zip(got, starts, strict=True)] == starts
        assert publisher.state == (ConnectionState.CONNECTED, "MQTT 3.1.1")
        publisher.close()
        assert b"offline" in subscriber.wait_for_topic("edge/demo/status", 2)[-1].payload


def test_two_brokers_run_at_once_and_release_their_ports() -> None:
    with EmbeddedBroker() as first, EmbeddedBroker() as second:
        assert first.port != second.port
        for broker in (first, second):
            with Subscriber(broker.port, is_mqtt5=False):
                pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, first.port), 5)


def test_taken_port_is_one_clear_error() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"embedded broker on port {port}: .*in use"):
            EmbeddedBroker(port).__enter__()


def test_missing_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(UnavailableError, match=r"pip install 'edge-camera\[demo\]'"):
        EmbeddedBroker().__enter__()
