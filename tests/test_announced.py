"""Components removed from the daemon are removed in Home Assistant, also after a restart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from daemon import CLIP, Daemon
from disk import full_disk
from edge.service.announced import MEMORY_NAME, gone
from mosquitto import Mosquitto, Subscriber

TOPIC = "homeassistant/device/gate/config"
OLD, NEW = {"old_state": "sensor", "fps": "sensor"}, {"new_state": "sensor", "fps": "sensor"}


def test_removed_component_is_reported_until_it_returns(tmp_path: Path) -> None:
    assert gone(tmp_path, TOPIC, OLD) == {}
    assert gone(tmp_path, TOPIC, OLD) == {}
    assert gone(tmp_path, TOPIC, NEW) == {"old_state": "sensor"}
    assert gone(tmp_path, TOPIC, NEW) == {"old_state": "sensor"}
    assert gone(tmp_path, TOPIC, {**OLD, **NEW}) == {}


def test_removed_components_are_per_device(tmp_path: Path) -> None:
    gone(tmp_path, TOPIC, OLD)
    assert gone(tmp_path, "homeassistant/device/yard/config", NEW) == {}


def test_unchanged_components_are_not_written_again(tmp_path: Path) -> None:
    gone(tmp_path, TOPIC, OLD)
    before = (tmp_path / MEMORY_NAME).stat()
    gone(tmp_path, TOPIC, OLD)
    assert (tmp_path / MEMORY_NAME).stat().st_ino == before.st_ino


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"topic": 1}', b'{"x":' * 9999])
def test_damaged_file_is_reported_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / MEMORY_NAME).write_bytes(content)
    assert gone(tmp_path, TOPIC, OLD) == {}
    assert "announced.forgotten" in caplog.text
    assert gone(tmp_path, TOPIC, NEW) == {"old_state": "sensor"}


def test_full_disk_is_reported_and_the_old_file_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone(tmp_path, TOPIC, OLD)
    with full_disk(0), caplog.at_level(logging.WARNING):
        assert gone(tmp_path, TOPIC, NEW) == {"old_state": "sensor"}
    assert "announced.not_remembered" in caplog.text
    assert gone(tmp_path, TOPIC, NEW) == {"old_state": "sensor"}


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


def announced(
    folder: Path, mosquitto: Mosquitto, subscriber: Subscriber, camera: str
) -> dict[str, dict[str, Any]]:
    """The components that a daemon with this camera announces."""
    before = sum(one.topic == TOPIC for one in subscriber.received)
    with Daemon(folder, mosquitto.port, cameras={camera: {"source": str(CLIP), "loop": True}}):
        *_, last = subscriber.wait_for_topic(TOPIC, before + 1)
    found: dict[str, dict[str, Any]] = json.loads(last.payload)["components"]
    return found
