"""A camera on a real RTSP stream that dies, stalls, refuses and returns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest

from edge.capture import Camera, CaptureState, CaptureStatus
from edge.config import CameraConfig
from edge.values import Frame
from mosquitto import free_port
from rtsp_server import RtspServer

OPEN_S, READ_S = 8.0, 2.0
PATIENCE_S = 30.0  # for a busy machine; a good run needs a fraction


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer(free_port()) as server:
        yield server


def camera_of(server: RtspServer) -> Camera:
    config = CameraConfig(
        source=server.address,
        open_timeout_s=OPEN_S,
        read_timeout_s=READ_S,
        retry_min_s=0.2,
        retry_max_s=0.5,
    )
    return Camera("front", config)


def take_until(camera: Camera, is_enough: Callable[[CaptureStatus], bool]) -> list[Frame]:
    """Take frames as the main loop does, until the status is as wished; never blocked for long."""
    frames = []
    limit_s = time.monotonic() + PATIENCE_S
    while not is_enough(camera.status):
        began_s = time.monotonic()
        assert began_s < limit_s, camera.status
        frame = camera.take(0.1)
        assert time.monotonic() - began_s < READ_S
        if frame is not None:
            frames.append(frame)
    return frames


def is_live(status: CaptureStatus) -> bool:
    return status.state is CaptureState.LIVE


def is_lost(status: CaptureStatus) -> bool:
    return status.state is CaptureState.LOST


def test_stream_gives_frames_with_stamps_in_order(server: RtspServer):
    with camera_of(server) as camera:
        assert camera.status.state is CaptureState.OPENING
        frames = take_until(camera, lambda status: status.frames >= 60)
    assert {frame.bgr.shape for frame in frames} == {(240, 320, 3)}
    stamps = [frame.captured_mono_s for frame in frames]
    assert stamps == sorted(stamps)
    assert all(frame.time_s == frame.captured_mono_s for frame in frames)
    ids = [frame.frame_id for frame in frames]
    assert ids == sorted(set(ids))
    assert abs(frames[-1].captured_utc_s - time.time()) < PATIENCE_S


def test_slow_consumer_gets_the_newest_frame_and_drops_are_counted(server: RtspServer):
    with camera_of(server) as camera:
        take_until(camera, is_live)
        began = camera.status.frames
        limit_s = time.monotonic() + PATIENCE_S
        while camera.status.frames <= began + 20:  # a consumer that is busy with something else
            assert time.monotonic() < limit_s
            time.sleep(0.01)
        frame = camera.take(1.0)
        assert frame is not None
        assert frame.frame_id >= began + 20
        assert camera.status.dropped >= 19


def test_camera_recovers_when_a_killed_server_returns(server: RtspServer):
    with camera_of(server) as camera:
        take_until(camera, is_live)
        server.kill()
        take_until(camera, is_lost)
        take_until(camera, lambda status: status.reconnects >= 2)
        assert is_lost(camera.status)
        seen = camera.status.frames
        server.start()
        frames = take_until(camera, lambda status: status.frames > seen + 5)
        assert is_live(camera.status)
        assert frames[-1].frame_id > seen


def test_stalled_stream_is_lost_in_time_and_recovers(server: RtspServer):
    with camera_of(server) as camera:
        take_until(camera, is_live)
        server.freeze()
        began_s = time.monotonic()
        take_until(camera, is_lost)
        assert time.monotonic() - began_s < OPEN_S  # OpenCV's own time-out: 30 s
        assert camera.status.reason
        server.thaw()
        seen = camera.status.frames
        take_until(camera, lambda status: status.frames > seen + 5)
        assert is_live(camera.status)


def test_leaving_a_stalled_stream_takes_a_bounded_time(server: RtspServer):
    with camera_of(server) as camera:
        take_until(camera, is_live)
        server.freeze()
        began_s = time.monotonic()
    assert time.monotonic() - began_s < OPEN_S
    server.thaw()


def test_login_never_shows_in_logs_or_state(caplog: pytest.LogCaptureFixture, capfd):
    caplog.set_level(logging.DEBUG)
    with RtspServer(free_port(), login=("joe", "open-sesame")) as server:
        with camera_of(server) as camera:
            take_until(camera, is_live)
            server.kill()
            take_until(camera, lambda status: status.reconnects >= 2)
            reason = camera.status.reason
        assert "rtsp://***@127.0.0.1" in reason
    shown = caplog.text + reason + "".join(capfd.readouterr())
    assert "camera.state camera=front state=lost" in shown
    assert "sesame" not in shown


def test_log_has_a_line_per_change_not_per_attempt(
    server: RtspServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    server.kill()
    with camera_of(server) as camera:
        take_until(camera, lambda status: status.reconnects >= 5)
    assert len(caplog.records) == 1
