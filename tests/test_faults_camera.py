"""Camera faults, over real HTTP; and clock jumps. Recovered = the next good frame."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.capture import Camera, CaptureState
from edge.config import CameraConfig
from edge.values import Frame
from fakes import FakeSource
from fault_table import Fault
from http_camera import MotionJpegServer
from mosquitto import Mosquitto, Subscriber, free_port
from publishing import EVENTS, Start, body, seqs, wait_acknowledged
from waiting import wait_until

DAY_S = 86_400.0
MOST_JPEG_ERROR = 20  # mean over a picture, gray levels


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)


def settings(port: int, **changes: object) -> CameraConfig:
    address = f"http://127.0.0.1:{port}/video.mjpg"
    return CameraConfig(
        source=address, retry_min_s=0.05, retry_max_s=0.2, read_timeout_s=1, **changes
    )


def wait_frame(camera: Camera, good: Callable[[Frame], object] = bool) -> Frame:
    found: list[Frame] = []

    def has_come() -> bool:
        frame = camera.take(0.1)
        found.extend([frame] if frame is not None and good(frame) else [])
        return bool(found)

    wait_until(has_come, 20)
    return found[0]


def wait_lost(camera: Camera) -> None:
    wait_until(lambda: camera.status.state is CaptureState.LOST, 20)


@pytest.mark.fault("camera missing at start")
def test_camera_that_is_missing_at_start(fault: Fault) -> None:
    for _ in range(fault.tries):
        port = free_port()
        with fault.trial() as strike, Camera("front", settings(port)) as camera:
            wait_lost(camera)
            server = MotionJpegServer(picture(), port)
            strike.strike()
            wait_frame(camera)
            strike.recovered()
        server.leave()


@pytest.mark.fault("camera unplugged")
def test_camera_that_is_unplugged(fault: Fault) -> None:
    replug(fault, (64, 48))


@pytest.mark.fault("camera returns at another size")
def test_camera_that_returns_at_another_size(fault: Fault) -> None:
    replug(fault, (160, 120))


def replug(fault: Fault, size: tuple[int, int]) -> None:
    port = free_port()
    server = MotionJpegServer(picture(), port)
    with Camera("front", settings(port)) as camera:
        for _ in range(fault.tries):
            with fault.trial() as strike:
                wait_frame(camera)
                server.leave()
                wait_lost(camera)
                server = MotionJpegServer(picture(*size), port)
                strike.strike()
                wait_frame(camera, lambda frame: frame.size == size)
                strike.recovered()
    server.leave()


@pytest.mark.fault("camera emits damaged frames")
def test_camera_that_emits_damaged_frames(fault: Fault) -> None:
    for _ in range(3 * fault.tries):
        damaged = [ValueError("damaged picture")] * 50
        source = FakeSource([*damaged, picture(), threading.Event()])
        config = CameraConfig(source=0, read_timeout_s=5)
        with (
            fault.trial() as strike,
            Camera("front", config, open_source=lambda _, source=source: source) as camera,
        ):
            wait_frame(camera)
            strike.recovered()
            assert camera.status.bad_frames == 50


def is_like(wanted: np.ndarray) -> Callable[[Frame], object]:
    """Whether a frame shows this picture, as far as JPEG keeps it."""
    return lambda frame: (
        frame.bgr.shape == wanted.shape
        and np.abs(frame.bgr.astype(int) - wanted).mean() < MOST_JPEG_ERROR
    )


@pytest.mark.fault("camera emits garbage over HTTP")
def test_camera_that_emits_garbage_over_http(fault: Fault) -> None:
    """Random bytes for pictures, then truncated pictures; the stream may break and is reopened."""
    chance = random.Random(3)
    wanted = cv2.resize(picture(8, 6), (64, 48))
    server = MotionJpegServer(wanted)
    good = server.jpeg
    with Camera("front", settings(server.server_address[1])) as camera:
        for _ in range(3 * fault.tries):
            with fault.trial() as strike:
                wait_frame(camera, is_like(wanted))
                for garbage in (chance.randbytes(len(good)), good[: len(good) // 2]):
                    server.jpeg = garbage
                    sent = server.sent
                    wait_until(lambda sent=sent: server.sent >= sent + 10, 20)
                server.jpeg = good
                strike.strike()
                wait_frame(camera, is_like(wanted))
                strike.recovered()
    server.leave()


@pytest.mark.fault("camera frozen (same picture)")
def test_camera_that_is_frozen(fault: Fault) -> None:
    server = MotionJpegServer(picture())
    port = server.server_address[1]
    with Camera("front", settings(port, frozen_timeout_s=0.5)) as camera:
        for _ in range(fault.tries):
            with fault.trial() as strike:
                wait_until(lambda: "the same picture" in camera.status.reason, 20)
                strike.strike()
                wait_frame(camera)
                strike.recovered()
    server.leave()


@pytest.mark.fault("clock jumps by years, and starts in 1970")
def test_wall_clock_that_jumps(
    fault: Fault, mosquitto: Mosquitto, start: Start, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    real = time.time
    shift_s = [-real()]  # a board without a clock boots in 1970
    monkeypatch.setattr(time, "time", lambda: real() + shift_s[0])
    with Subscriber(mosquitto.port, EVENTS) as subscriber:
        publisher, spool = start(mosquitto.port)
        number = 0
        for jump_s in (0.0, 400 * DAY_S, -400 * DAY_S, DAY_S) * fault.tries:
            with fault.trial() as strike:
                shift_s[0] = jump_s if number else shift_s[0]
                for _ in range(20):
                    number = publisher.publish_event(EVENTS, body(number))
                wait_acknowledged(spool)
                strike.recovered(lost=spool.counters().lost)
        subscriber.wait_for(lambda all_: set(seqs(all_)) == set(range(1, number + 1)))
