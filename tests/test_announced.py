"""Components removed from the daemon are removed in Home Assistant, also after a restart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from daemon import CLIP, Daemon
from disk import full_disk
from edge.service.announced import COMPONENTS, gone
from mosquitto import Mosquitto, Received, Subscriber

TOPIC = "homeassistant/device/gate/config"
OLD, NEW = {"old_state": "sensor", "fps": "sensor"}, {"new_state": "sensor", "fps": "sensor"}


def test_removed_component_is_reported_until_it_returns(tmp_path: Path) -> None:
    assert gone(tmp_path / COMPONENTS, TOPIC, OLD) == {}
    assert gone(tmp_path / COMPONENTS, TOPIC, OLD) == {}
    assert gone(tmp_path / COMPONENTS, TOPIC, NEW) == {"old_state": "sensor"}
    assert gone(tmp_path / COMPONENTS, TOPIC, NEW) == {"old_state": "sensor"}
    assert gone(tmp_path / COMPONENTS, TOPIC, {**OLD, **NEW}) == {}


def test_removed_components_are_per_device(tmp_path: Path) -> None:
    gone(tmp_path / COMPONENTS, TOPIC, OLD)
    assert gone(tmp_path / COMPONENTS, "homeassistant/device/yard/config", NEW) == {}


def test_unchanged_components_are_not_written_again(tmp_path: Path) -> None:
    gone(tmp_path / COMPONENTS, TOPIC, OLD)
    before = (tmp_path / COMPONENTS).stat()
    gone(tmp_path / COMPONENTS, TOPIC, OLD)
    assert (tmp_path / COMPONENTS).stat().st_ino == before.st_ino


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"topic": 1}', b'{"x":' * 9999])
def test_damaged_file_is_reported_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / COMPONENTS).write_bytes(content)
    assert gone(tmp_path / COMPONENTS, TOPIC, OLD) == {}
    assert "announced.forgotten" in caplog.text
    assert gone(tmp_path / COMPONENTS, TOPIC, NEW) == {"old_state": "sensor"}


def test_full_disk_is_reported_and_the_old_file_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone(tmp_path / COMPONENTS, TOPIC, OLD)
    with full_disk(0), caplog.at_level(logging.WARNING):
        assert gone(tmp_path / COMPONENTS, TOPIC, NEW) == {"old_state": "sensor"}
    assert "announced.not_remembered" in caplog.text
    assert gone(tmp_path / COMPONENTS, TOPIC, NEW) == {"old_state": "sensor"}


def test_entities_of_a_renamed_camera_are_removed(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    first, second = (announced(tmp_path, mosquitto, subscriber, name) for name in ("old", "new"))
    assert len(first["old_state"]) > 1
    camera = {name: one for name, one in first.items() if name.startswith("old_")}
    removed = {name: one for name, one in second.items() if name.startswith("old_")}
    assert removed == {name: {"platform": one["platform"]} for name, one in camera.items()}
    others = {name: one for name, one in second.items() if name not in removed}
    assert {name.replace("new_", "old_") for name in others} == set(first)
    assert all("unique_id" in one for one in others.values())


def test_what_a_renamed_camera_has_left_at_the_broker_is_cleared(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    camera = {"source": str(CLIP), "loop": True}
    with Daemon(tmp_path, mosquitto.port, cameras={"old": camera}) as daemon:
        subscriber.wait_for_topic("edge/gate/old/snapshot/person")
        assert daemon.stop() == 0
    with Daemon(tmp_path, mosquitto.port, cameras={"new": camera}):
        subscriber.wait_for_topic("edge/gate/new/snapshot/person")
        subscriber.wait_for(lambda all_: {*retained(all_)} >= {"new/state", "new/snapshot/person"})
    assert not [name for name in retained(subscriber.received) if name.startswith("old/")]


def retained(received: list[Received]) -> dict[str, bytes]:
    """What the broker retains of cameras: the newest payload by topic, empty ones left out."""
    newest = {one.topic.removeprefix("edge/gate/"): one.payload for one in received}
    kept = {name: payload for name, payload in newest.items() if payload}
    return {name: payload for name, payload in kept.items() if "/s" in name}


def announced(
    folder: Path, mosquitto: Mosquitto, subscriber: Subscriber, camera: str
) -> dict[str, dict[str, Any]]:
    """The components that a daemon with this camera announces."""
    before = sum(one.topic == TOPIC for one in subscriber.received)
    with Daemon(folder, mosquitto.port, cameras={camera: {"source": str(CLIP), "loop": True}}):
        *_, last = subscriber.wait_for_topic(TOPIC, before + 1)
    found: dict[str, dict[str, Any]] = json.loads(last.payload)["components"]
    return found
