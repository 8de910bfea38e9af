"""The whole daemon: real processes, a real broker, real signals."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asking import EVENTS, STATS, ask, events_of, is_offline, open_ids, stats_of
from daemon import CLIP, Daemon
from edge.messages import CameraState, Detections, Info, Response, Status
from mosquitto import PERSISTENT, Login, Mosquitto, Received, Subscriber
from waiting import wait_until


@pytest.fixture
def daemon(tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber) -> Iterator[Daemon]:
    """A daemon whose first event has arrived."""
    with Daemon(tmp_path, mosquitto.port) as daemon:
        subscriber.wait_for_topic(EVENTS)
        yield daemon


def test_clip_becomes_events_and_states_within_three_seconds_and_150_mb(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    started_s = time.monotonic()
    with Daemon(tmp_path, mosquitto.port) as daemon:
        subscriber.wait_for_topic(EVENTS)
        first_event_s = time.monotonic() - started_s - kept_waiting_s(daemon)
        received = subscriber.wait_for(lambda all_: len(stats_of(all_)) >= 4)
    by_topic = {one.topic: one for one in received}
    status = msgspec.json.decode(by_topic["edge/gate/status"].payload, type=Status)
    info = msgspec.json.decode(by_topic["edge/gate/info"].payload, type=Info)
    state = msgspec.json.decode(by_topic["edge/gate/front/state"].payload, type=CameraState)
    event = events_of(received)[0]
    assert status.status == "online"
    assert info.boot_id == status.boot_id == event.boot_id
    assert all(model.integer_only for model in info.models.values())
    assert state.state == "live"
    assert (event.kind, event.label, event.seq, event.historical) == ("new", "person", 1, False)
    assert 0 < event.latency_ms < 2000
    assert "homeassistant/device/gate/config" in by_topic
    assert by_topic["edge/gate/front/snapshot/person"].payload.startswith(b"\xff\xd8")
    assert first_event_s < 3
    assert stats_of(received)[-1].rss_bytes < 150e6


def kept_waiting_s(daemon: Daemon) -> float:
    """How long other work kept the daemon's main thread from a processor that it wanted.

    Source: Linux Documentation/scheduler/sched-stats, /proc/<pid>/schedstat.
    """
    assert daemon.process is not None
    times_ns = Path(f"/proc/{daemon.process.pid}/schedstat").read_text().split()
    return int(times_ns[1]) / 1e9


def test_nothing_is_lost_over_three_broker_restarts_and_a_kill(
    tmp_path: Path, mosquitto_program: str
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    settings = f"{PERSISTENT}{folder}/"
    with (
        Mosquitto(folder, settings=settings) as broker,
        Subscriber(broker.port) as subscriber,
        Daemon(tmp_path, broker.port) as daemon,
    ):
        for _ in range(3):
            seen = len(events_of(subscriber.received))
            subscriber.wait_for(lambda all_, seen=seen: len(events_of(all_)) > seen + 3, 30)
            broker.stop()
            time.sleep(1.5)  # events continue meanwhile: the outage is what is tested
            broker.start()
            subscriber.wait_subscribed()
        before_kill = stats_of(subscriber.wait_for_topic(STATS))[-1]
        daemon.kill()
        daemon.start()
        subscriber.wait_for(lambda all_: len({event.boot_id for event in events_of(all_)}) == 2)
        assert daemon.stop() == 0
        last = subscriber.wait_for(is_offline)
    events = events_of(last)
    bodies: dict[str, dict[int, bytes]] = defaultdict(dict)
    for event in events:
        body = msgspec.json.encode(
            msgspec.structs.replace(event, historical=False, published_utc="")
        )
        assert bodies[event.boot_id].setdefault(event.seq, body) == body  # a duplicate is the same
    first_boot, second_boot = bodies.values()
    for seqs in (first_boot, second_boot):
        assert sorted(seqs) == list(range(1, max(seqs) + 1))  # no gap
    assert max(first_boot) >= before_kill.events
    assert any(event.historical for event in events)
    news = [(event.boot_id, event.id, event.seq) for event in events if event.kind == "new"]
    assert len({(boot, name) for boot, name, _ in news}) == len(set(news))  # no object begins twice


def test_commands_are_answered_and_executed(daemon: Daemon, subscriber: Subscriber) -> None:
    assert ask(subscriber, "pause", {"transaction": "a1"}) == Response(
        status="ok", transaction="a1", result={"paused": True, "for_s": None}
    )
    subscriber.wait_for(lambda all_: stats_of(all_)[-1].skipped["paused"] > 3)
    assert ask(subscriber, "resume", b"").status == "ok"
    detected = stats_of(subscriber.received)[-1].detected
    subscriber.wait_for(lambda all_: stats_of(all_)[-1].detected > detected)
    answer = ask(subscriber, "set_thresholds", {"labels": {"person": 0.9}})
    assert answer.result is not None
    assert answer.result["labels"]["person"] == 0.9
    assert ask(subscriber, "snapshot", {"camera": "front"}).status == "ok"
    (frame,) = subscriber.wait_for_topic("edge/gate/front/snapshot/frame")
    assert frame.payload.startswith(b"\xff\xd8")


def test_thresholds_apply_until_the_reload_and_show_in_detections(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    wanted = {"stats_interval_s": 0.5, "detections": True}

    def found(received: list[Received]) -> list[Detections]:
        mine = [one.payload for one in received if one.topic == "edge/gate/front/detections"]
        return [msgspec.json.decode(payload, type=Detections) for payload in mine]

    with Daemon(tmp_path, mosquitto.port, publish=wanted):
        subscriber.wait_for(lambda all_: any(one.detections for one in found(all_)), 30)
        answer = ask(subscriber, "set_thresholds", {"min_score": 0.99, "labels": {"cat": 0.7}})
        assert answer.result is not None
        assert answer.result["min_score"] == answer.result["labels"]["person"] == 0.99
        assert answer.result["labels"]["cat"] == 0.7
        seen = len(found(subscriber.received)) + 1  # one may have been under way
        later = found(subscriber.wait_for(lambda all_: len(found(all_)) > seen + 10))[seen:]
        assert not any(one.detections for one in later)
        assert ask(subscriber, "reload", b"").status == "ok"
        seen += len(later)
        subscriber.wait_for(lambda all_: any(one.detections for one in found(all_)[seen:]))


def test_invalid_commands_are_answered_with_the_reason_and_stop_nothing(
    daemon: Daemon, subscriber: Subscriber
) -> None:
    for name, payload, fault in (
        ("pause", b"{", "pause"),
        ("pause", b'{"for_s": -1}', "for_s"),
        ("pause", b'{"camera": "garden"}', "no camera 'garden'; known: front"),
        ("pause", b'{"camera": "front door\\n"}', r"no camera 'front door\n'; known: front"),
        ("resume", b'{"camera": "%s"}' % (b"x" * 9000), "xxx; known: front"),
        ("dance", b"{}", "dance"),
        ("set_thresholds", b'{"labels": {"unicorn": 0.5}}', "unicorn"),
        ("snapshot", b'"' + b"x" * 20_000 + b'"', "bytes"),
    ):
        answer = ask(subscriber, name, payload)
        assert answer.status == "error", payload
        assert answer.error is not None
        assert fault in answer.error
        assert "\n" not in answer.error
    detected = stats_of(subscriber.wait_for_topic(STATS))[-1].detected
    subscriber.wait_for(lambda all_: stats_of(all_)[-1].detected > detected)


def test_reload_applies_what_it_can_and_refuses_the_rest(
    daemon: Daemon, subscriber: Subscriber
) -> None:
    daemon.config["budget"] = {"frame_ms": 777}
    daemon.config["log"] = {"mqtt_level": "info"}
    daemon.write_config()
    daemon.signal(signal.SIGHUP)
    for topic, part in (("/info", b"777"), ("/log", b"service.reloaded")):
        subscriber.wait_for(
            lambda all_, topic=topic, part=part: any(
                one.topic.endswith(topic) and part in one.payload for one in all_
            )
        )
    daemon.write_config("cameras: {front: {sorce: 0}}")
    answer = ask(subscriber, "reload", {})
    assert answer.status == "error"
    assert "sorce" in (answer.error or "")
    daemon.config["device"] = "other"
    daemon.write_config()
    answer = ask(subscriber, "reload", {})
    assert "restart needed for a change of device" in (answer.error or "")
    detected = stats_of(subscriber.received)[-1].detected
    subscriber.wait_for(lambda all_: stats_of(all_)[-1].detected > detected)


def test_reload_refused_for_its_log_leaves_the_old_config_in_force(
    daemon: Daemon, subscriber: Subscriber
) -> None:
    daemon.config["cameras"]["front"] = {"source": str(CLIP)}
    daemon.config["publish"] = {"stats_interval_s": 600}
    daemon.config["log"] = {"file": "/proc/nowhere/edge.log"}
    daemon.write_config()
    answer = ask(subscriber, "reload", {})
    assert "log.file /proc/nowhere/edge.log" in (answer.error or "")
    count = len(stats_of(subscriber.received))
    subscriber.wait_for(lambda all_: len(stats_of(all_)) >= count + 3)  # as often as before


NAME_TOO_LONG = "/" + 300 * "x"


def test_reload_with_an_inaccessible_path_is_refused(
    daemon: Daemon, subscriber: Subscriber
) -> None:
    def refusals() -> list[str]:
        return [line for line in daemon.log if "service.reload_refused" in line]

    good = daemon.config
    changes = (
        {"models_dir": NAME_TOO_LONG},
        {"detector": {"model": NAME_TOO_LONG}},
        {"cameras": {"front": {"source": f"{NAME_TOO_LONG}.mp4"}}},
    )
    for number, change in enumerate(changes, start=1):
        daemon.config = good | change
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        wait_until(lambda number=number: len(refusals()) == number)
        assert NAME_TOO_LONG in refusals()[-1]
        assert ask(subscriber, "reload", {}).status == "error"
    count = len(stats_of(subscriber.received))
    subscriber.wait_for(lambda all_: len(stats_of(all_)) > count)
    assert len(refusals()) == len(changes)  # once a signal


def test_objects_live_on_over_a_reload_and_no_id_is_used_twice(
    daemon: Daemon, subscriber: Subscriber
) -> None:
    subscriber.wait_for(open_ids, 30)
    assert ask(subscriber, "reload", {}).status == "ok"
    count = len(events_of(subscriber.received))
    subscriber.wait_for(lambda all_: len(events_of(all_)) > count + 10, 30)
    assert daemon.stop() == 0
    received = subscriber.wait_for(is_offline)
    (answer,) = (place for place, one in enumerate(received) if one.topic.endswith("se/reload"))
    before, after = received[:answer], received[answer:]
    assert open_ids(before) & {event.id for event in events_of(after)}
    lives: dict[str, list[str]] = defaultdict(list)
    for event in events_of(received):
        lives[event.id].append(event.kind)
    for kinds in lives.values():  # one life an id, and every one of them has come to its end
        assert (kinds[0], kinds[-1]) == ("new", "end")
        assert set(kinds[1:-1]) <= {"update"}


def test_reload_of_another_source_opens_it(daemon: Daemon, subscriber: Subscriber) -> None:
    daemon.config["cameras"]["front"] = {"source": str(CLIP), "realtime": False}
    daemon.write_config()
    result = ask(subscriber, "reload", {}).result or {}
    assert result["reloaded"] is True
    assert result.keys() == {"reloaded", "models"}
    assert daemon.wait(60) == 0  # it ends with the file, which is no longer looped


def test_stop_is_clean_and_publishes_offline(daemon: Daemon, subscriber: Subscriber) -> None:
    started_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started_s < 5
    subscriber.wait_for(is_offline)
    assert not [line for line in daemon.log if "Traceback" in line]


def test_second_signal_exits_at_once(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # a stop waits for its reader
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        silent.settimeout(20)
        manager.bind(str(address))
        manager.settimeout(20)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
        camera = {"source": f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"}
        with (
            Daemon(tmp_path, 1, environment=environment, cameras={"front": camera}) as daemon,
            silent.accept()[0],
        ):
            daemon.signal(signal.SIGTERM)
            while manager.recv(4096) != b"STOPPING=1":
                pass
            daemon.signal(signal.SIGINT)
            assert daemon.wait() == 128 + signal.SIGINT


def test_every_frame_is_detected_or_counted_under_its_cause_and_none_is_logged(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    changes: dict[str, Any] = {
        "cameras": {"front": {"source": str(CLIP), "realtime": False}},
        "budget": {"frame_ms": 5},
    }
    with Daemon(tmp_path, mosquitto.port, **changes) as daemon:
        assert daemon.wait(60) == 0
    stats = stats_of(subscriber.wait_for(is_offline))[-1]
    assert stats.cameras["front"].frames == 250
    assert stats.detected + sum(stats.skipped.values()) == 250
    assert stats.skipped["budget"] + stats.skipped["stale"] > 0
    assert stats.degraded in {"", "budget", "load"}
    assert len(daemon.log) < 15


def test_refused_login_keeps_the_daemon_and_its_events(
    tmp_path: Path, mosquitto_program: str
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    login = Login("gate", "right")
    password = tmp_path / "password"
    password.write_text("wrong\n")
    with Mosquitto(folder, login=login) as broker:
        daemon = Daemon(tmp_path, broker.port)
        daemon.config["mqtt"] |= {"username": "gate", "password_file": str(password)}
        daemon.write_config()
        with daemon, Subscriber(broker.port, login=login) as subscriber:
            line = daemon.wait_for_log("mqtt.refused")
            assert "wrong" not in line
            password.write_text("right\n")
            event = events_of(subscriber.wait_for_topic(EVENTS, timeout_s=30))[0]
            assert event.seq == 1
            assert daemon.stop() == 0


def test_service_manager_is_notified(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    address = tmp_path / "notify"
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "1000000"}
        stream = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        cameras = {
            "front": {"source": stream, "open_timeout_s": 1},
            "yard": {"source": str(CLIP), "loop": True},
        }
        with Daemon(tmp_path, mosquitto.port, environment=environment, cameras=cameras) as daemon:
            states = [""]
            while not states[-1].startswith("READY=1"):
                states.append(manager.recv(4096).decode())
            assert states[-1] == "READY=1\nSTATUS=front lost, yard live"
            while states.count("WATCHDOG=1") < 3:
                states.append(manager.recv(4096).decode())
            while not states[-1].startswith("STATUS=front lost, yard live, "):
                states.append(manager.recv(4096).decode())
            for text, end in ((None, "service.reloaded"), ("no config", "service.reload_refused")):
                daemon.write_config(text)
                daemon.signal(signal.SIGHUP)
                daemon.wait_for_log(end)
                states = [""]
                while not states[-1].startswith("READY=1"):  # without it, the unit stays in reload
                    states.append(manager.recv(4096).decode())
                assert any(one.startswith("RELOADING=1") for one in states)
            daemon.signal(signal.SIGTERM)
            while states[-1] != "STOPPING=1":
                states.append(manager.recv(4096).decode())
            assert daemon.wait() == 0


@pytest.mark.parametrize(
    ("change", "code", "fault"),
    [
        ({"cameras": {"front": {"source": "/nowhere/clip.mp4"}}}, 66, "front: /nowhere/clip"),
        ({"detector": {"model": "yolo-best"}}, 78, "yolo-best"),
        ({"detector": {"labels": {"unicorn": {}}}}, 78, "unicorn"),
        ({"state_dir": "/proc/nowhere"}, 69, "/proc/nowhere"),
        ({"mqtt": {"ca_file": "/nowhere/ca.pem"}}, 78, "/nowhere/ca.pem"),
    ],
)
def test_failed_start_is_a_one_line_error_with_a_documented_exit_code(
    tmp_path: Path, change: dict[str, Any], code: int, fault: str
) -> None:
    with Daemon(tmp_path, 1, **change) as daemon:
        assert daemon.wait() == code
    errors = [line for line in daemon.log if line.startswith("edge: ")]
    assert len(errors) == 1
    assert fault in errors[0]
    assert not [line for line in daemon.log if "Traceback" in line]
