"""Pictures are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from disk import full_disk
from edge import picture_file
from edge.errors import EdgeError

NOISE = np.random.default_rng(1).integers(0, 255, (120, 160, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "new/b.jpg"])
def test_a_picture_comes_back(tmp_path: Path, name: str) -> None:
    picture_file.write(tmp_path / name, NOISE)
    back = np.asarray(cv2.imread(str(tmp_path / name)))
    assert back.shape == NOISE.shape
    if name.endswith(".png"):
        np.testing.assert_array_equal(back, NOISE)


def test_a_full_disk_keeps_the_picture_before_and_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture_file.write(path, NOISE)
    before = path.read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match="File too large"):
        picture_file.write(path, 255 - NOISE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_what_is_no_format_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(EdgeError, match=f"{name}: no format of pictures"):
        picture_file.write(tmp_path / name, NOISE)
