"""The daemon with a third-party detector: it works, and reports that it is not integer-only."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np

from daemon import Daemon
from edge.messages import Event, Info
from models import foreign_folder
from mosquitto import Mosquitto, Subscriber


def test_third_party_detector_makes_events_and_info_has_its_certificate(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    bgr = np.zeros((128, 128, 3), np.uint8)
    bgr[32:64, 64:96] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "street.png"), bgr)
    folder = foreign_folder(tmp_path, "ssd")
    with Daemon(
        tmp_path,
        mosquitto.port,
        cameras={"front": {"source": str(tmp_path / "street.png"), "loop": True}},
        detector={"model": str(folder)},
        motion={"enabled": False},
    ) as daemon:
        (first, *_) = subscriber.wait_for_topic("edge/gate/front/events", timeout_s=60)
        (received, *_) = subscriber.wait_for_topic("edge/gate/info")
        assert daemon.stop() == 0
    event = msgspec.json.decode(first.payload, type=Event)
    assert event.label == "person"
    info = msgspec.json.decode(received.payload, type=Info)
    assert not info.models["detector"].integer_only
    assert info.models["color"].integer_only
    warned = [line for line in daemon.log if "model.not_integer_only" in line]
    assert len(warned) == 1
