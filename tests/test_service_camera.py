"""The daemon over a camera's life: its end, its loss, another source; every frame is counted."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import cv2
import pytest

from asking import EVENTS, ask, events_of, is_offline, open_ids, states_of, stats_of
from daemon import CLIP, Daemon
from edge import config_file
from edge.config import CameraConfig, Config, TrackerConfig
from edge.errors import EXIT_NO_INPUT, EXIT_OK
from edge.health import Condition
from edge.messages import Stats
from edge.service import Service
from edge.values import Frame
from http_camera import MotionJpegServer
from mosquitto import Mosquitto, Subscriber
from waiting import wait_until


def counted(stats: Stats) -> int:
    return stats.detected + sum(stats.skipped.values())


def scene():
    """A picture with people."""
    capture = cv2.VideoCapture(str(CLIP))
    _, bgr = capture.read()
    capture.release()
    return bgr


def test_end_of_file_is_reported_even_right_after_the_last_frame(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    # Without motion and with no time for the detector, the last frame is done before the reader
    # has seen the file's end.
    camera = {"source": str(CLIP), "realtime": False}
    with Daemon(
        tmp_path, mosquitto.port, cameras={"front": camera}, budget={"frame_ms": 5}
    ) as daemon:
        assert daemon.wait(60) == 0
    subscriber.wait_for(lambda all_: states_of(all_)[-1].state == "ended")


def test_daemon_whose_file_is_missing_never_says_online(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    cameras = {"front": {"source": "/nowhere/clip.mp4"}}
    with Daemon(tmp_path, mosquitto.port, cameras=cameras) as daemon:
        assert daemon.wait() == EXIT_NO_INPUT
    assert not (tmp_path / "state" / "announced.json").exists()
    assert not [line for line in daemon.log if "mqtt.connected" in line]


def test_every_frame_is_counted_across_a_reload_and_a_stop(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with Daemon(tmp_path, mosquitto.port, budget={"frame_ms": 5}) as daemon:
        subscriber.wait_for(lambda all_: any(counted(s) > 20 for s in stats_of(all_)))
        before = stats_of(subscriber.received)[-1]
        daemon.config["cameras"]["front"] = {"source": str(CLIP), "loop": True, "fps": 1}
        daemon.write_config()
        subscriber.publish("edge/gate/command/reload", b"{}")
        subscriber.wait_for_topic("edge/gate/response/reload")
        assert daemon.stop() == 0
    last = stats_of(subscriber.received)[-1]
    assert last.cameras["front"].frames == counted(last) >= counted(before)


def test_camera_that_a_reload_replaces_is_closed(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    server = MotionJpegServer(scene(), interval_s=0.1)
    try:
        camera = {"source": server.address}
        with Daemon(tmp_path, mosquitto.port, cameras={"front": camera}) as daemon:
            wait_until(lambda: server.viewers == 1, 20)
            daemon.config["cameras"]["front"] = {"source": str(CLIP), "loop": True}
            daemon.write_config()
            subscriber.publish("edge/gate/command/reload", b"{}")
            subscriber.wait_for_topic("edge/gate/response/reload")
            wait_until(lambda: server.viewers == 0)
    finally:
        server.leave()


def test_governor_is_informed_that_the_board_is_hot(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = Condition(None, None, None, None, None, is_hot=True)
    monkeypatch.setattr("edge.service.reporter.read_condition", lambda: hot)
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), scene())
    daemon = Daemon(tmp_path, mosquitto.port, cameras={"front": {"source": str(picture)}})
    config = config_file.load(daemon.config_path)
    service = Service(daemon.config_path, config, lambda: config)
    assert service.run() == EXIT_OK
    assert service._parts.governor.is_hot


def test_objects_end_when_the_camera_is_lost_and_get_new_ids_when_it_returns(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    server = MotionJpegServer(scene(), interval_s=0.1)
    camera = {"source": server.address, "retry_min_s": 0.1, "retry_max_s": 0.2}
    changes = {"cameras": {"front": camera}, "tracker": {"max_lost_s": 0.5}}
    try:
        with Daemon(tmp_path, mosquitto.port, **changes):
            subscriber.wait_for_topic(EVENTS)
            server.leave()
            subscriber.wait_for(
                lambda all_: states_of(all_)[-1].state == "lost" and not open_ids(all_)
            )
            answer = ask(subscriber, "snapshot", {})
            assert answer.error == "camera front is lost; try later"
            gone = {event.id for event in events_of(subscriber.received)}
            server = MotionJpegServer(scene(), server.server_address[1], interval_s=0.1)
            received = subscriber.wait_for(lambda all_: open_ids(all_) - gone, 30)
    finally:
        server.leave()
    ids = [event.id for event in events_of(received) if event.kind == "new"]
    assert len(ids) == len(set(ids))


def test_objects_outlive_a_short_absence_of_their_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = TrackerConfig(max_lost_s=60)
    config = Config(cameras={"front": CameraConfig(source=str(CLIP))}, tracker=tracker)
    service = Service(tmp_path / "edge.yaml", config, lambda: config)
    ends = []
    monkeypatch.setattr(service, "_end_objects", lambda _stream: ends.append(True))
    stream = service._streams["front"]
    service._end_unseen(stream)  # before the first frame
    bgr = scene()
    for share, is_end in ((0.5, False), (1.1, True)):
        seen_s = time.monotonic() - share * config.tracker.max_lost_s
        stream.newest = Frame("front", 1, bgr, seen_s, 0.0, 0.0)
        service._end_unseen(stream)
        assert bool(ends) == is_end


def test_slow_source_does_not_trigger_the_watchdog(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(folder / name), scene())
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "500000"}
        camera = {"source": str(folder), "fps": 0.5}  # one picture in 2 s
        with Daemon(tmp_path, 1, environment=environment, cameras={"front": camera}) as daemon:
            states = [manager.recv(4096).decode()]
            while states[-1] != "STOPPING=1":
                states.append(manager.recv(4096).decode())
            assert daemon.wait() == 0
    assert states.count("WATCHDOG=1") > 3  # without it: one for each picture


def test_objects_end_in_their_old_pixel_size_when_the_frame_size_changes(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, size in enumerate([(640, 480)] * 5 + [(320, 240)] * 5):
        cv2.imwrite(str(pictures / f"{number}.png"), cv2.resize(scene(), size))
    camera = {"source": str(pictures), "realtime": False}
    stages = {"motion": {"enabled": False}, "budget": {"frame_ms": 60_000}}  # detect on each
    with Daemon(tmp_path, mosquitto.port, cameras={"front": camera}, **stages) as daemon:
        assert daemon.wait(60) == EXIT_OK
    deliveries = subscriber.wait_for(is_offline)
    events = events_of(deliveries)
    sizes = {id_: {e.frame_size for e in events if e.id == id_} for id_ in {e.id for e in events}}
    assert {size for own in sizes.values() for size in own} == {(640, 480), (320, 240)}
    assert all(len(own) == 1 for own in sizes.values())
    assert stats_of(deliveries)[-1].events == len({event.seq for event in events})
    assert all(event.box.w > 0 and event.box.h > 0 for event in events)
