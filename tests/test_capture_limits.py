"""Limits of a source: a frozen picture is noticed, and memory use is bounded."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from edge import MAX_PIXELS
from edge.capture import Camera, CaptureState
from edge.capture.source import checked
from edge.config import CameraConfig
from fakes import FakeSource
from pictures import FAST_RETRY
from waiting import wait_until

SIDE = 8400  # pixels; 212 MB when decoded


def still(count: int = 100_000) -> FakeSource:
    return FakeSource([np.full((8, 8, 3), 7, np.uint8)] * count)


def noisy() -> FakeSource:
    noise = np.random.default_rng(1)
    return FakeSource([noise.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(97)] * 1000)


def test_frozen_camera_is_lost_and_opened_again() -> None:
    frozen, is_seen = still(), threading.Event()
    first = iter([frozen])

    def open_again(_config: CameraConfig) -> FakeSource:
        if source := next(first, None):
            return source
        is_seen.wait()
        return noisy()

    config = CameraConfig(source=0, frozen_timeout_s=0.05, **FAST_RETRY)
    with Camera("front", config, open_source=open_again) as camera:
        wait_until(lambda: camera.status.state is CaptureState.LOST)
        assert "the same picture for 0.05 s" in camera.status.reason
        is_seen.set()
        wait_until(lambda: camera.status.state is CaptureState.LIVE)
        assert frozen.is_closed


def test_noisy_picture_is_not_frozen_and_zero_disables_the_check() -> None:
    for source, limit_s in ((noisy(), 0.02), (still(), 0)):
        config = CameraConfig(source=0, frozen_timeout_s=limit_s)
        with Camera("front", config, open_source=lambda _, source=source: source) as camera:
            wait_until(lambda: camera.status.frames > 2_000 or camera.status.reason, 60)
            assert camera.status.frames > 2_000


def test_still_picture_in_a_file_is_not_frozen(tmp_path: Path) -> None:
    path = tmp_path / "still.avi"
    path.touch()
    source = FakeSource([np.full((8, 8, 3), 7, np.uint8)] * 20, is_live=False, fps=100)
    config = CameraConfig(source=str(path), frozen_timeout_s=0.05)
    with Camera("front", config, open_source=lambda _: source) as camera:
        wait_until(lambda: source.is_closed)
        assert (camera.status.frames, camera.status.reconnects) == (20, 0)


def bomb(path: Path) -> Path:
    """A PNG of 200 KB that becomes 212 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    packer = zlib.compressobj(1)
    row = bytes(1 + SIDE * 3)
    pixels = b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush()
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def huge_video(path: Path) -> Path:
    size = f"color=red:size={SIDE}x{SIDE}:rate=5"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        size,
        "-frames:v",
        "1",
        "-c:v",
        "mjpeg",
    ]
    subprocess.run([*command, str(path)], check=True)
    return path


def large_file(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(300 * 1024 * 1024)  # takes no room on the disk
    return path


@pytest.mark.parametrize(
    ("make", "name", "fault"),
    [
        (bomb, "bomb.png", "pixels; make it smaller"),
        (huge_video, "huge.avi", f"is over {MAX_PIXELS} pixels"),
        (large_file, "large.jpg", "too large for a picture"),
        (large_file, "large.heic", "too large for a picture"),
    ],
)
def test_decompression_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, make, name: str, fault: str
) -> None:
    path = make(tmp_path / name)
    # A normal run of infer needs far less; a decoded bomb would need far more.
    code = (
        "import re, sys; from edge.cli import main\n"
        "code = main(['infer', sys.argv[1], '--no-color'])\n"
        # Not getrusage: its peak includes that of the parent process.
        "status = open('/proc/self/status').read()\n"
        "peak = 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
        "assert peak < 300e6, peak\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 66, done.stderr
    (line,) = done.stderr.splitlines()
    assert fault in line


def of_shape(*shape: int) -> np.ndarray:
    """Return an array that needs the memory of one pixel."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), shape, (0,) * len(shape))


@pytest.mark.parametrize(
    "shape", [(MAX_PIXELS + 1, 1), (1, MAX_PIXELS + 1), (2**14, 2**14, 3), (5,)]
)
def test_oversized_or_malformed_frame_is_a_bad_frame(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pixels|no picture"):
        checked(of_shape(*shape))


def test_frame_of_just_the_allowed_pixels_is_a_good_one() -> None:
    assert checked(of_shape(1, MAX_PIXELS, 3)).shape == (1, MAX_PIXELS, 3)
