"""The camera module of a Raspberry Pi, whose program is replaced by a fake of the same output."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import install
from edge.capture import Cameras, CaptureState
from edge.config import CameraConfig
from mosquitto import LOOPBACK, free_port
from waiting import wait_until

UNIT = Path(__file__).parents[1] / "systemd" / install.MODULE_UNITS[1]
SIZE = (1280, 720)
# As rpicam-vid writes with --codec mjpeg: pictures one after another, until nobody reads them.
FAKE = """#!/bin/sh
echo "$@" > "$0.called"
while cat "$0.1" && sleep .05 && cat "$0.2"; do sleep .05; done
rm "$0.called"
"""


def pictures(folder: Path) -> None:
    noise = np.random.default_rng(1)
    for number in (1, 2):
        bgr = noise.integers(0, 255, (*reversed(SIZE), 3), np.uint8)
        (folder / f"rpicam-vid.{number}").write_bytes(cv2.imencode(".jpg", bgr)[1].tobytes())


@contextmanager
def listening(program: Path, port: int) -> Iterator[None]:
    """Listen as edge-rpicam.socket does, for the unit's command with another program."""
    unit = configparser.RawConfigParser(strict=False)
    unit.read(UNIT)
    _, *options = shlex.split(unit["Service"]["ExecStart"])
    command = ["systemd-socket-activate", "--accept", "--inetd", f"--listen={LOOPBACK}:{port}"]
    with subprocess.Popen([*command, program, *options], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def test_camera_runs_while_it_is_read_and_again_for_the_next_reader(tmp_path: Path) -> None:
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("systemd-socket-activate is not installed")
    program, port = tmp_path / "rpicam-vid", free_port()
    program.write_text(FAKE)
    program.chmod(0o755)
    pictures(tmp_path)
    called = tmp_path / "rpicam-vid.called"
    config = CameraConfig(source=f"tcp://{LOOPBACK}:{port}", retry_min_s=0.1)
    with listening(program, port):
        for _ in range(2):
            with Cameras({"front": config}) as cameras:
                frames = [cameras.take(1) for _ in range(40)]
                seen = [frame for frame in frames if frame is not None]
                assert len(seen) > 5
                assert {frame.size for frame in seen} == {SIZE}
                assert cameras.status("front").state is CaptureState.LIVE
                size = "--width {} --height {}".format(*SIZE)
                assert size in called.read_text()
            wait_until(lambda: not called.exists())
