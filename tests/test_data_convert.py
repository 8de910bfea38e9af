"""One picture's way into a data set: decoded, scaled down, linked or copied."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

import labelled
from edge.errors import EdgeError, InputError
from tools.data.convert import (
    Converted,
    NoRoomError,
    Task,
    convert,
    decode,
    link_or_copy,
)


def test_box_is_scaled_by_the_factor_of_each_side() -> None:
    done = Converted(size=(50, 30), source_size=(100, 90))
    assert done.scaled([10, 9, 20, 45]) == [5, 3, 10, 15]


@pytest.mark.parametrize(
    ("size", "max_side_px", "made"),
    [
        ((96, 64), 48, (48, 32)),
        ((64, 96), 48, (32, 48)),
        ((96, 64), 200, (96, 64)),
        ((96, 64), None, (96, 64)),
        ((100, 1), 10, (10, 1)),
        ((1, 100), 10, (1, 10)),
    ],
)
def test_picture_is_only_ever_scaled_down_to_its_longest_side(
    tmp_path: Path, size: tuple[int, int], max_side_px: int | None, made: tuple[int, int]
):
    source, target = tmp_path / "a.png", tmp_path / "set" / "a.png"
    cv2.imwrite(str(source), labelled.picture(1, size))
    done = convert(Task(source, target, max_side_px, is_copied=False))
    assert done == Converted(made, size)
    assert cv2.imread(str(target)).shape[1::-1] == made


def test_scaling_averages_all_pixels(tmp_path: Path):
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::4] = 200
    source, target = tmp_path / "a.png", tmp_path / "set" / "a.png"
    cv2.imwrite(str(source), stripes)
    convert(Task(source, target, 24, is_copied=False))
    assert np.unique(cv2.imread(str(target))) == [50]


@pytest.mark.parametrize("is_copied", [True, False])
def test_picture_that_keeps_its_size_is_linked_unless_a_copy_is_asked_for(
    tmp_path: Path, is_copied: bool
):
    source, target = labelled.save(tmp_path / "a.png", 1), tmp_path / "set" / "a.png"
    for _ in range(2):
        convert(Task(source, target, None, is_copied))
    assert target.samefile(source) is not is_copied
    assert target.read_bytes() == source.read_bytes()
    assert list(target.parent.iterdir()) == [target]


def test_leftover_link_of_a_killed_worker_is_not_written_through(tmp_path: Path):
    source, other = (labelled.save(tmp_path / f"{seed}.png", seed) for seed in (1, 2))
    target = tmp_path / "set" / "a.png"
    target.parent.mkdir()
    os.link(other, target.with_name(f".{os.getpid()}-a.png"))
    before = other.read_bytes()
    convert(Task(source, target, None, is_copied=False))
    assert other.read_bytes() == before
    assert target.read_bytes() == source.read_bytes()


def test_a_link_is_followed_before_it_is_linked(tmp_path: Path):
    source = labelled.save(tmp_path / "a.png", 1)
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "deep").mkdir()
    link_or_copy(tmp_path / "link.png", tmp_path / "deep" / "b.png")
    assert not (tmp_path / "deep" / "b.png").is_symlink()
    assert (tmp_path / "deep" / "b.png").samefile(source)


def test_file_is_copied_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_link(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_link)
    source = labelled.save(tmp_path / "a.png", 1)
    link_or_copy(source, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, NoRoomError), (errno.EACCES, EdgeError)]
)
def test_picture_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[EdgeError]
):
    def fail(*_: object) -> None:
        raise OSError(number, "no more")

    monkeypatch.setattr(Path, "replace", fail)
    source, target = labelled.save(tmp_path / "a.png", 1), tmp_path / "set" / "a.png"
    with pytest.raises(EdgeError, match=r"set/a\.png: no more") as failed:
        convert(Task(source, target, 48, is_copied=False))
    assert failed.type is kind
    assert list(target.parent.iterdir()) == []


def test_the_end_of_a_thumbnail_is_not_that_of_the_jpeg(tmp_path: Path):
    source = labelled.save(tmp_path / "a.jpg", 1)
    whole = source.read_bytes()
    thumbnail = b"\xff\xe1\x00\x06\xff\xd8\xff\xd9"
    source.write_bytes(whole[:2] + thumbnail + whole[2:-2])
    with pytest.raises(InputError, match="the end of the JPEG is missing"):
        decode(source)


def test_picture_too_large_to_decode_is_refused_with_the_limit(tmp_path: Path):
    source = labelled.save(tmp_path / "a.png", 1)
    content = bytearray(source.read_bytes())
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: over 67108864 pixels; make it smaller"):
        decode(source)
