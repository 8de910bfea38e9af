"""Pictures are read as displayed, and written completely or not at all."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from disk import full_disk
from edge import picture_file
from edge.errors import EdgeError

NOISE = np.random.default_rng(1).integers(0, 255, (120, 160, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "new/b.jpg"])
def test_picture_round_trips(tmp_path: Path, name: str) -> None:
    picture_file.write(tmp_path / name, NOISE)
    back = np.asarray(cv2.imread(str(tmp_path / name)))
    assert back.shape == NOISE.shape
    if name.endswith(".png"):
        np.testing.assert_array_equal(back, NOISE)


def test_full_disk_keeps_the_old_picture_and_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture_file.write(path, NOISE)
    before = path.read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match="File too large"):
        picture_file.write(path, 255 - NOISE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".avif", ".gif", ".png", ".webp"])
def test_transparent_pixels_are_blended_with_white(suffix: str) -> None:
    if not cv2.haveImageWriter(suffix):
        pytest.skip("this OpenCV has no such format")
    bgra = np.zeros((60, 80, 4), np.uint8)
    bgra[20:40, 20:40] = (0, 0, 255, 255)
    bgra[20:40, 50:70] = (0, 0, 255, 128)
    bgr = decoded(suffix, bgra)
    assert bgr[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(bgr[30, 30], [0, 0, 255], atol=4)
    if suffix != ".gif":  # each pixel is either transparent or not
        np.testing.assert_allclose(bgr[30, 60], [127, 127, 255], atol=2)


def test_transparent_16_bit_pixels_are_blended_with_white() -> None:
    bgra = np.zeros((60, 80, 4), np.uint16)
    bgra[20:40, 20:40] = (0, 0, 65535, 65535)
    bgr = decoded(".png", bgra)
    assert bgr[0, 0].tolist() == [255, 255, 255]
    assert bgr[30, 30].tolist() == [0, 0, 255]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_opaque_pixels_stay_as_they_are(suffix: str) -> None:
    opaque = np.dstack([NOISE, np.full(NOISE.shape[:2], 255, np.uint8)])
    for pixels in (NOISE, opaque):
        _, content = cv2.imencode(suffix, pixels)
        expected = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))
        np.testing.assert_array_equal(decoded(suffix, pixels), expected)


def test_transparent_palette_colors_are_blended_with_white() -> None:
    colors = b"\x00\x00\x00" + b"\xff\x00\x00"  # black, red
    content = png(3, np.array([[0, 1]]), PLTE=colors, tRNS=b"\x00\xff")
    bgr = picture_file.decode(content)
    assert np.asarray(bgr).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_the_transparent_color_of_an_rgb_picture_is_white() -> None:
    content = png(2, np.array([[255, 0, 0, 10, 20, 30]]), tRNS=b"\x00\xff\x00\x00\x00\x00")
    assert np.asarray(picture_file.decode(content)).tolist() == [[[255, 255, 255], [30, 20, 10]]]


def test_turned_transparent_picture_is_turned_and_keeps_its_colors() -> None:
    red_green = np.array([[255, 0, 0, 0, 0, 255, 0, 0]])
    upside_down = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    bgr = picture_file.decode(png(6, red_green, eXIf=upside_down))
    assert np.asarray(bgr).tolist() == [[[0, 255, 0], [0, 0, 255]]]


def png(color_type: int, rows: np.ndarray, **chunks: bytes) -> np.ndarray:
    """Return an 8-bit PNG, of two pixels in each row of samples, with further chunks."""
    size = struct.pack(">IIBBBBB", 2, len(rows), 8, color_type, 0, 0, 0)
    samples = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rows)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in {"IHDR": size, **chunks, "IDAT": zlib.compress(samples), "IEND": b""}.items():
        body = name.encode() + data
        content += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return np.frombuffer(content, np.uint8)


def test_blending_needs_little_memory_beside_the_picture() -> None:
    bgra = np.full((1000, 1500, 4), 128, np.uint8)
    tracemalloc.start()
    decoded(".png", bgra)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10 * 1000 * 1500  # of a pixel: 7 for both pictures, the rest for one band


def decoded(suffix: str, pixels: np.ndarray) -> np.ndarray:
    _, content = cv2.imencode(suffix, pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])
    bgr = picture_file.decode(np.asarray(content, np.uint8).ravel())
    assert bgr is not None
    assert bgr.dtype == np.uint8
    return bgr


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_unknown_picture_format_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(EdgeError, match=f"{name}: unknown format"):
        picture_file.write(tmp_path / name, NOISE)
