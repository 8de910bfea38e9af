"""Copies one picture into the data set's `images/`: decoded to check it, scaled down if asked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.errors import NO_ROOM, EdgeError, InputError, why_not_written
from edge.values import Image
from tools import dataset

JPEG_QUALITY = 95


class NoRoomError(EdgeError):
    """The disk is full, so all further pictures would fail as well."""


@dataclass(frozen=True)
class Task:
    """A picture to convert; max_side_px None keeps its size. Sizes are (width, height)."""

    source: Path
    target: Path
    max_side_px: int | None
    is_copied: bool


@dataclass(frozen=True)
class Converted:
    """size: of the picture as written; source_size: as it was."""

    size: tuple[int, int]
    source_size: tuple[int, int]

    def scaled(self, box_px: Sequence[float]) -> list[float]:
        """Return a box (x, y, width, height) of the source in the written picture's pixels."""
        factors = (self.size[0] / self.source_size[0], self.size[1] / self.source_size[1]) * 2
        return [round(value * factor, 2) for value, factor in zip(box_px, factors, strict=True)]


def convert(task: Task) -> Converted:
    """Write one picture atomically.

    A picture that keeps its size is hard-linked (copied if links are impossible, or on request).
    Raises InputError when it cannot be read, EdgeError when it cannot be written (NoRoomError on a
    full disk).
    """
    bgr = decode(task.source)
    height, width = bgr.shape[:2]
    factor = min((task.max_side_px or max(width, height)) / max(width, height), 1.0)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    task.target.parent.mkdir(parents=True, exist_ok=True)
    # Not `durable.replacing`: the file may be a link, and two Dask workers may write one picture.
    part = task.target.with_name(f".{os.getpid()}-{task.target.name}")
    try:
        if factor < 1:
            small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
            part.write_bytes(_encoded(small, task))
        else:
            part.unlink(missing_ok=True)
            (shutil.copyfile if task.is_copied else link_or_copy)(task.source, part)
        part.replace(task.target)
        part.unlink(missing_ok=True)  # replacing a link by another of the same file leaves both
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        kind = NoRoomError if error.errno in NO_ROOM else EdgeError
        raise kind(f"{task.target}: {why_not_written(error)}") from None
    return Converted(size, (width, height))


def clear_parts(targets: Collection[Path]) -> None:
    """Remove the temporary files that killed processes left beside their targets."""
    wanted = frozenset(targets)
    for folder in {target.parent for target in wanted}:
        for part in folder.glob(".[0-9]*-*"):
            if folder / part.name.partition("-")[2] in wanted:
                part.unlink(missing_ok=True)


def decode(path: Path) -> Image:
    """Return a file's pixels, uint8 BGR; InputError when it is not a complete picture."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[len(data) // 2 :]:
        raise InputError(f"{path}: the end of the JPEG is missing; repair or remove it")
    return dataset.decoded(data, path)


def _encoded(bgr: np.ndarray, task: Task) -> bytes:
    """Return a picture in the format of its target's suffix; InputError when that names none."""
    suffix = task.target.suffix
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    try:
        _, data = cv2.imencode(suffix, bgr, settings)
    except cv2.error:
        fault = f"cannot be scaled, as {suffix!r} names no format that can be written"
        raise InputError(f"{task.source}: {fault}; rename it") from None
    return data.tobytes()


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file to a new name; copy it if the file system has no hard links."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
