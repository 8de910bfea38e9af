"""A paused daemon publishes it everywhere, and tracks nothing meanwhile."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from asking import EVENTS, ask, events_of, open_ids, states_of, stats_of
from daemon import Daemon
from edge.cli import main
from mosquitto import Mosquitto, Subscriber, free_port
from waiting import wait_until


def test_pause_ends_the_objects_and_is_published_everywhere(
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscriber: Subscriber,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    with Daemon(tmp_path, mosquitto.port, metrics={"port": port}) as daemon:
        subscriber.wait_for(open_ids)
        assert ask(subscriber, "pause", {}).status == "ok"
        received = subscriber.wait_for(
            lambda all_: states_of(all_)[-1].paused and not open_ids(all_)
        )
        before = {event.id for event in events_of(received)}
        subscriber.wait_for(lambda all_: stats_of(all_)[-1].cameras["front"].paused)

        def is_told() -> bool:
            address = f"http://127.0.0.1:{port}/metrics"
            with urllib.request.urlopen(address, timeout=10) as answer:
                told = answer.read().decode()
            return 'edge_camera_paused{camera="front",device="gate"} 1.0' in told

        wait_until(is_told)
        assert main(["status", str(daemon.config_path)]) == 0
        assert "live, newest frame" in (shown := capsys.readouterr().out)
        assert "paused: the command resume ends it" in shown
        assert ask(subscriber, "resume", {}).result == {"paused": False}
        received = subscriber.wait_for(
            lambda all_: not states_of(all_)[-1].paused and open_ids(all_)
        )
    assert not open_ids(received) & before


def test_requested_stats_are_recent_whatever_the_interval(
    tmp_path: Path, mosquitto_program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Mosquitto(tmp_path)

    def status_text() -> str:
        main(["status", str(daemon.config_path)])
        return capsys.readouterr().out

    with Daemon(tmp_path, broker.port, publish={"stats_interval_s": 3600}) as daemon:
        daemon.wait_for_log("service.started")
        wait_until(lambda: "Connection refused" in status_text())
        with broker:
            daemon.wait_for_log("mqtt.connected")
            wait_until(lambda: "broker    connected" in status_text(), 10)
        daemon.wait_for_log("mqtt.lost")
        wait_until(lambda: "WRONG: broker lost" in status_text(), 10)


def test_changed_interval_applies_from_the_reload(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    publish = {"stats_interval_s": 3600}
    with Daemon(tmp_path, mosquitto.port, publish=publish) as daemon:
        subscriber.wait_for_topic(EVENTS)
        before = len(stats_of(subscriber.received))
        daemon.config["publish"] = {"stats_interval_s": 0.2}
        daemon.write_config()
        assert ask(subscriber, "reload", {}).status == "ok"
        subscriber.wait_for(lambda all_: len(stats_of(all_)) >= before + 2)


def test_snapshots_of_objects_can_be_switched_off(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    publish = {"stats_interval_s": 0.2, "snapshots": False}
    with Daemon(tmp_path, mosquitto.port, publish=publish):
        subscriber.wait_for_topic(EVENTS)
        before = len(stats_of(subscriber.received))
        received = subscriber.wait_for(lambda all_: len(stats_of(all_)) >= before + 3)
    assert not [one.topic for one in received if "/snapshot/" in one.topic]


def test_snapshot_is_current_or_refused(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with Daemon(tmp_path, mosquitto.port) as daemon:
        subscriber.wait_for_topic(EVENTS)
        answer = ask(subscriber, "snapshot", {})
        assert answer.result is not None
        assert answer.result["captured_utc"].endswith("Z")
        daemon.config["cameras"]["front"] = {"source": "/dev/video63"}
        daemon.write_config()
        assert ask(subscriber, "reload", {}).status == "ok"
        subscriber.wait_for(lambda all_: states_of(all_)[-1].state == "lost")
        answer = ask(subscriber, "snapshot", {})
        assert (answer.status, answer.error) == ("error", "camera front is lost; try later")
        assert len(subscriber.wait_for_topic("edge/gate/front/snapshot/frame")) == 1
