"""One daemon with two cameras: shared models and budget, everything else by camera."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import cv2
import msgspec
import pytest

from asking import ask, is_offline, stats_of
from daemon import CLIP, Daemon
from edge import config_file
from edge.capture import Cameras, CaptureState, CaptureStatus
from edge.cli import main
from edge.config import CameraConfig, Config
from edge.errors import EXIT_OK, EXIT_UNHEALTHY
from edge.messages import CameraState, Event, Info
from edge.service import Service
from edge.values import Frame, Image
from http_camera import MotionJpegServer
from mosquitto import Mosquitto, Received, Subscriber
from pictures import gray_level
from waiting import wait_until

PLAYED = {"source": str(CLIP), "loop": True}
TWO = {"door": PLAYED, "front": {**PLAYED}}  # two dicts: YAML would write an alias


def events_at(received: list[Received], camera: str) -> list[Event]:
    topic = f"edge/gate/{camera}/events"
    return [msgspec.json.decode(one.payload, type=Event) for one in received if one.topic == topic]


def kinds_at(received: list[Received], camera: str) -> list[str]:
    return [event.kind for event in events_at(received, camera)]


def new_ids_at(received: list[Received], camera: str) -> list[str]:
    return [event.id for event in events_at(received, camera) if event.kind == "new"]


def states_at(received: list[Received], camera: str) -> list[CameraState]:
    mine = [one.payload for one in received if one.topic == f"edge/gate/{camera}/state"]
    return [msgspec.json.decode(payload, type=CameraState) for payload in mine]


@contextmanager
def two_servers() -> Iterator[dict[str, MotionJpegServer]]:
    """Servers of the people's picture by camera; one may be replaced by another."""
    servers = {name: MotionJpegServer(people(), interval_s=0.1) for name in TWO}
    try:
        yield servers
    finally:
        for server in servers.values():
            server.leave()


def test_both_cameras_are_detected_counted_and_published(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber, capsys: pytest.CaptureFixture[str]
) -> None:
    with Daemon(tmp_path, mosquitto.port, cameras=TWO) as daemon:
        (info,) = subscriber.wait_for_topic("edge/gate/info")
        assert msgspec.json.decode(info.payload, type=Info).cameras == ("door", "front")
        for camera in TWO:
            subscriber.wait_for(lambda all_, camera=camera: len(events_at(all_, camera)) > 2, 60)
            subscriber.wait_for_topic(f"edge/gate/{camera}/snapshot/person")
        assert main(["status", str(daemon.config_path)]) == EXIT_OK
        shown = capsys.readouterr().out
        for camera in TWO:
            line = (
                rf"^camera    {camera} live, newest frame [\d.]+ s ago, [\d.]+ a second detected$"
            )
            assert re.search(line, shown, re.MULTILINE)
        assert main(["doctor", str(daemon.config_path)]) == EXIT_OK
        assert "door: live, says the daemon; front: live, says" in capsys.readouterr().out
        assert daemon.stop() == EXIT_OK
    received = subscriber.wait_for(is_offline)
    events = {camera: events_at(received, camera) for camera in TWO}
    for camera, mine in events.items():
        assert {event.camera for event in mine} == {camera}
        assert len({event.id for event in mine if event.kind == "new"}) > 0
    ids = [{event.id for event in mine} for mine in events.values()]
    assert not ids[0] & ids[1]
    numbers = sorted(event.seq for mine in events.values() for event in mine)
    assert numbers == [*range(1, len(numbers) + 1)]
    last = stats_of(received)[-1]
    assert last.detected == sum(one.detected for one in last.cameras.values())
    for one in last.cameras.values():
        assert one.frames == one.detected + sum(one.skipped.values())
        assert one.detected > 0
    for cause, count in last.skipped.items():
        assert count == sum(one.skipped[cause] for one in last.cameras.values())


def test_command_reaches_the_camera_that_it_names(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with Daemon(tmp_path, mosquitto.port, cameras=TWO) as daemon:
        subscriber.wait_for(lambda all_: events_at(all_, "front") and events_at(all_, "door"), 60)
        assert ask(subscriber, "pause", {"camera": "door"}).status == "ok"
        daemon.wait_for_log("command.done name=pause camera=door")
        subscriber.wait_for(lambda all_: states_at(all_, "door")[-1].paused)
        received = subscriber.wait_for(
            lambda all_: stats_of(all_)[-1].cameras["door"].skipped["paused"] > 5
        )
        last = stats_of(received)[-1]
        assert last.cameras["front"].skipped["paused"] == 0
        assert not states_at(received, "front")[-1].paused
        assert [event.kind for event in events_at(received, "door")][-1] == "end"
        assert ask(subscriber, "resume", {}).status == "ok"
        subscriber.wait_for(lambda all_: not states_at(all_, "door")[-1].paused)
        unnamed = ask(subscriber, "snapshot", {})
        assert (unnamed.status, unnamed.error) == ("error", "name a camera: door, front")
        unknown = ask(subscriber, "pause", {"camera": "roof"})
        assert unknown.error == "no camera 'roof'; known: door, front"
        named = ask(subscriber, "snapshot", {"camera": "door"})
        assert named.result is not None
        assert named.result["topic"] == "edge/gate/door/snapshot/frame"


def test_lost_camera_leaves_the_other_at_work_and_is_named(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = {"front": PLAYED, "door": {"source": "/dev/video63"}}
    with Daemon(tmp_path, mosquitto.port, cameras=cameras) as daemon:
        subscriber.wait_for(lambda all_: "lost" in {one.state for one in states_at(all_, "door")})
        subscriber.wait_for(lambda all_: len(events_at(all_, "front")) > 2, 60)
        wait_until(lambda: main(["status", str(daemon.config_path)]) == EXIT_UNHEALTHY)
        assert "WRONG: camera door lost; run edge doctor" in capsys.readouterr().out
        error = ask(subscriber, "snapshot", {"camera": "door"}).error
        assert error == "camera door is lost; try later"
        assert daemon.stop() == EXIT_OK


def test_objects_of_a_paused_or_lost_camera_end_and_those_of_the_other_do_not(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with two_servers() as servers:
        cameras = {name: {"source": server.address} for name, server in servers.items()}
        tracker = {"max_lost_s": 3}  # the door's frames may be late, too
        with Daemon(tmp_path, mosquitto.port, cameras=cameras, tracker=tracker):
            for name in TWO:
                subscriber.wait_for(lambda all_, name=name: events_at(all_, name), 60)
            ask(subscriber, "pause", {"camera": "front"})
            ask(subscriber, "resume", {"camera": "front"})
            subscriber.wait_for(lambda all_: kinds_at(all_, "front")[-1] == "new", 60)
            ended = kinds_at(subscriber.received, "front").count("end")
            assert ended > 0
            servers["front"].leave()
            subscriber.wait_for(lambda all_: kinds_at(all_, "front").count("end") > ended, 60)
            assert "end" not in kinds_at(subscriber.received, "door")


def test_objects_of_the_camera_that_changes_its_frame_size_end_and_those_of_the_other_do_not(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with two_servers() as servers:
        cameras = {name: {"source": server.address} for name, server in servers.items()}
        cameras["front"] |= {"retry_min_s": 0.1, "retry_max_s": 0.2}
        tracker = {"max_lost_s": 600}
        with Daemon(tmp_path, mosquitto.port, cameras=cameras, tracker=tracker):
            for name in TWO:
                subscriber.wait_for(lambda all_, name=name: events_at(all_, name), 60)
            port = servers["front"].server_address[1]
            servers["front"].leave()
            small = cv2.resize(people(), (320, 240))
            servers["front"] = MotionJpegServer(small, port, interval_s=0.1)
            subscriber.wait_for(lambda all_: "end" in kinds_at(all_, "front"), 60)
            subscriber.wait_for(lambda all_: kinds_at(all_, "front")[-1] == "new", 60)
            assert "end" not in kinds_at(subscriber.received, "door")


def test_watchdog_is_fed_only_while_each_live_camera_has_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(cameras={name: CameraConfig(source=str(CLIP)) for name in TWO})
    service = Service(tmp_path / "edge.yaml", config, lambda: config)
    monkeypatch.setattr(service, "_report", lambda *_: None)
    live = {name: CaptureStatus(CaptureState.LIVE) for name in TWO}
    monkeypatch.setattr(service, "_statuses", lambda: live)
    fed: list[float] = []
    monkeypatch.setattr(service._notifier, "progress", lambda: fed.append(0))
    for quiet_s, times in ((0.0, 1), (60.0, 1), (0.0, 2)):
        for name, age_s in (("door", quiet_s), ("front", 0.0)):
            captured_s = time.monotonic() - age_s
            service._streams[name].newest = Frame(name, 1, people(), captured_s, 0.0, 0.0)
        service._do_housekeeping()
        assert len(fed) == times
    lost = {**live, "door": CaptureStatus(CaptureState.LOST)}
    service._streams["door"].newest = None
    monkeypatch.setattr(service, "_statuses", lambda: lost)
    service._do_housekeeping()
    assert len(fed) == 3


def people() -> Image:
    """The first picture of the clip."""
    capture = cv2.VideoCapture(str(CLIP))
    bgr = capture.read()[1]
    capture.release()
    return bgr


def test_reload_replaces_the_camera_that_changed_and_no_other(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    server = MotionJpegServer(people(), interval_s=0.1)
    try:
        cameras = {"front": {"source": server.address}, "door": {"source": "/dev/video63"}}
        with Daemon(tmp_path, mosquitto.port, cameras=cameras) as daemon:
            subscriber.wait_for(lambda all_: events_at(all_, "front"), 60)
            assert not events_at(subscriber.received, "door")
            assert ask(subscriber, "pause", {"camera": "door"}).status == "ok"
            daemon.config["cameras"]["door"] = PLAYED
            daemon.write_config()
            assert ask(subscriber, "reload", {}).status == "ok"
            subscriber.wait_for(lambda all_: states_at(all_, "door")[-1].state == "live")
            assert states_at(subscriber.received, "door")[-1].paused
            assert ask(subscriber, "resume", {"camera": "door"}).status == "ok"
            subscriber.wait_for(lambda all_: events_at(all_, "door"), 60)
            received = subscriber.wait_for(lambda all_: kinds_at(all_, "front")[-1] != "end", 60)
            assert len({*new_ids_at(received, "front")}) == len(new_ids_at(received, "front"))
            assert {state.state for state in states_at(received, "front")} <= {"opening", "live"}
            assert "lost" in {state.state for state in states_at(received, "door")}
            assert server.viewers == 1
            daemon.config["cameras"]["front"]["labels"] = ["car"]
            daemon.config["cameras"]["front"]["zones"] = {"all": [[0, 0], [1, 0], [1, 1]]}
            daemon.write_config()
            assert ask(subscriber, "reload", {}).status == "ok"
            subscriber.wait_for(lambda all_: kinds_at(all_, "front")[-1] == "end", 60)
            assert server.visits == 1
    finally:
        server.leave()


def test_cameras_come_and_go_with_a_reload(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber, capsys: pytest.CaptureFixture[str]
) -> None:
    def take_over(**cameras: dict[str, object]) -> None:
        daemon.config["cameras"] = cameras
        daemon.write_config()
        assert ask(subscriber, "reload", {}).status == "ok"

    with Daemon(tmp_path, mosquitto.port, cameras=TWO) as daemon:
        for name in TWO:
            subscriber.wait_for_topic(f"edge/gate/{name}/snapshot/person")
        subscriber.publish("edge/gate/door/snapshot/car", b"of an earlier run", retain=True)
        take_over(front={**PLAYED}, roof={**PLAYED})
        received = subscriber.wait_for(lambda all_: events_at(all_, "roof"), 60)
        info = [one.payload for one in received if one.topic == "edge/gate/info"][-1]
        assert msgspec.json.decode(info, type=Info).cameras == ("front", "roof")
        main(["status", str(daemon.config_path)])
        shown = capsys.readouterr().out
        assert "roof" in shown
        assert "door" not in shown
        assert kinds_at(received, "door")[-1] == "end"
        ended = {event.id for event in events_at(received, "door") if event.kind == "end"}
        assert ended == {event.id for event in events_at(received, "door")}
        for topic in ("state", "snapshot/person", "snapshot/car"):
            mine = [one.payload for one in received if one.topic == f"edge/gate/door/{topic}"]
            assert mine[-1] == b""
        take_over(front={**PLAYED}, door={**PLAYED})
        gone = len(new_ids_at(subscriber.received, "door"))
        received = subscriber.wait_for(lambda all_: len(new_ids_at(all_, "door")) > gone + 2, 60)
        assert len({*new_ids_at(received, "door")}) == len(new_ids_at(received, "door"))
        received = subscriber.wait_for(lambda all_: {*stats_of(all_)[-1].cameras} == TWO.keys())
        for one, next_ in pairwise(stats_of(received)):
            assert one.detected <= next_.detected
            assert sum(one.skipped.values()) <= sum(next_.skipped.values())
        assert daemon.stop() == EXIT_OK
    last = stats_of(subscriber.wait_for(is_offline))[-1]
    for one in last.cameras.values():
        assert one.frames == one.detected + sum(one.skipped.values())
    assert last.detected > sum(one.detected for one in last.cameras.values())


def test_objects_of_a_file_that_has_ended_end_while_others_go_on(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    cameras = {"front": {**PLAYED}, "door": {"source": str(CLIP), "realtime": False}}
    with Daemon(tmp_path, mosquitto.port, cameras=cameras, tracker={"max_lost_s": 1}) as daemon:
        subscriber.wait_for(
            lambda all_: "ended" in {one.state for one in states_at(all_, "door")}, 60
        )
        ended = subscriber.wait_for(
            lambda all_: (
                {event.id for event in events_at(all_, "door")}
                == {event.id for event in events_at(all_, "door") if event.kind == "end"}
                != set()
            ),
            60,
        )
        before = len(events_at(ended, "front"))
        subscriber.wait_for(lambda all_: len(events_at(all_, "front")) > before)
        assert daemon.stop() == EXIT_OK


def test_order_of_the_cameras_follows_their_detections(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Cameras, "tell_detected", lambda _, name: told.append(name))
    cv2.imwrite(str(tmp_path / "still.png"), gray_level(40, (64, 48)))
    files = {"source": str(tmp_path / "still.png"), "realtime": False}
    cameras = {"door": files, "front": {**files}}
    daemon = Daemon(tmp_path, mosquitto.port, cameras=cameras)
    config = config_file.load(daemon.config_path)
    assert Service(daemon.config_path, config, lambda: config).run() == EXIT_OK
    assert set(told) == {"door", "front"}


def test_daemon_ends_when_all_files_have(tmp_path: Path, mosquitto: Mosquitto) -> None:
    short = tmp_path / "short"
    short.mkdir()
    for number in range(3):
        cv2.imwrite(str(short / f"{number}.png"), gray_level(20 * number, (64, 48)))
    files = {"source": str(short), "realtime": False}
    cameras = {"front": files, "door": {"source": str(CLIP), "realtime": False}}
    with Daemon(tmp_path, mosquitto.port, cameras=cameras) as daemon:
        assert daemon.wait(120) == EXIT_OK
    assert [line for line in daemon.log if "service.source_ended cameras=door,front" in line]
