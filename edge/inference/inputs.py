"""Inputs: image files, the files in folders, and the frames of videos."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge import lookup, picture_file
from edge.capture import HEIC_SUFFIXES, Source, open_source, read_image, redact, refuse_pipe
from edge.config import CameraConfig
from edge.errors import CameraError, InputError
from edge.values import Image

# OpenCV decodes some of these; the others are named rather than left out.
RARE_SUFFIXES = frozenset({".avif", ".gif", ".jfif", ".jp2", ".jpe", ".jxl", ".pgm", ".ppm"})
PICTURE_SUFFIXES = picture_file.SUFFIXES | RARE_SUFFIXES | HEIC_SUFFIXES
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ts", ".webm", ".wmv"}
)
# Some containers only estimate how many frames they hold.
MIN_COMPLETE = 0.95

logger = logging.getLogger(__name__)

# Yields the frames of a video and shows how many are done: frames, their number (None: unknown),
# what they are.
Bar = Callable[[Iterator[Image], int | None, str], Iterator[Image]]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to process; `frame` counts a video's frames from 1, None for a still image.

    label: of the one object that it shows, None where that is not known.
    """

    path: Path
    bgr: Image
    frame: int | None
    label: str | None = None

    def head(self) -> dict[str, Any]:
        """Return the first fields of a picture's entry in the output."""
        height, width = self.bgr.shape[:2]
        head: dict[str, Any] = {"file": text_of(self.path), "width": width, "height": height}
        return head if self.frame is None else {**head, "frame": self.frame}


def text_of(path: Path | str) -> str:
    r"""Return a path as text for JSON, with bytes that are not UTF-8 as `\xff`."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def expand(
    inputs: list[Path], *, is_recursive: bool = False, drawn: Path | None = None
) -> tuple[list[Path], list[InputError]]:
    """Return the files to read, with folders replaced by their files, and the errors.

    is_recursive: also the files of the visible folders below them, except links to folders and
    `drawn`, where pictures of results go.
    """
    paths: list[Path] = []
    errors: list[InputError] = []
    for path in inputs:
        if address := _address(path):
            fix = "download it first, or give a camera to `edge run`"
            errors.append(InputError(f"{address}: an address; {fix}"))
            continue
        if not lookup.is_folder(path):
            paths.append(path)  # a missing file is reported when its turn comes
            continue
        below = _folders_below(path, lookup.real(drawn) if drawn else None)
        files, faults = _files_of_folder(path, below, is_recursive=is_recursive)
        paths += files
        errors += faults
    return paths, errors


def _files_of_folder(
    folder: Path, below: Iterator[Path], *, is_recursive: bool
) -> tuple[list[Path], list[InputError]]:
    """Return a folder's images and videos by name, and why some or all are missing."""
    folders = [folder]
    if is_recursive:
        folders += below
    elif next(below, None):
        logger.warning("infer.folders_left_out in=%s; --recursive reads them, too", folder)
    files: list[Path] = []
    faults: list[InputError] = []
    for one in folders:
        try:
            files += lookup.files_in(one, PICTURE_SUFFIXES | VIDEO_SUFFIXES)
        except OSError as error:
            faults.append(InputError(f"{one}: {error.strerror}; cannot be listed"))
    if not files and not faults:
        kinds = ", ".join(sorted(PICTURE_SUFFIXES | VIDEO_SUFFIXES))
        where = "or below" if is_recursive else "itself"
        faults.append(InputError(f"{folder}: no images or videos in this folder {where} ({kinds})"))
    return files, faults


def _folders_below(folder: Path, drawn: Path | None) -> Iterator[Path]:
    """Yield the visible folders below a folder, at any depth, each before those in it."""
    waiting = _folders_in(folder, drawn)
    while waiting:
        below = waiting.pop()
        yield below
        waiting += _folders_in(below, drawn)


def _folders_in(folder: Path, drawn: Path | None) -> list[Path]:
    """Return the visible folders directly in a folder, the last name first."""
    with contextlib.suppress(OSError):  # reported when its files are listed
        return [
            entry
            for entry in sorted(folder.iterdir(), reverse=True)
            if not entry.name.startswith(".")
            and not entry.is_symlink()
            and lookup.is_folder(entry)
            and (drawn is None or lookup.real(entry) != drawn)
        ]
    return []


def no_bar(frames: Iterator[Image], _total: int | None, _unit: str) -> Iterator[Image]:
    """Yield the frames and show nothing."""
    return frames


def pictures(path: Path, *, label: str | None = None, bar: Bar = no_bar) -> Iterator[Picture]:
    """Yield the image, or the frames of a video, with the label.

    Raises InputError or CameraError when it cannot be decoded; of a damaged video, after the frames
    that can.
    """
    source = _open(path)
    if isinstance(source, np.ndarray):
        yield Picture(path, source, None, label)
        return
    try:
        number = 0
        for bgr in bar(_frames(source), source.frames or None, f"frames of {path.name}"):
            number += 1
            yield Picture(path, bgr, number, label)
        _check_complete(path, source, number)
    except ValueError as error:
        raise InputError(f"{path}: frame {number + 1} is damaged ({error})") from None
    finally:
        source.close()


def _check_complete(path: Path, source: Source, number: int) -> None:
    """Raise InputError for a video that gave `number` frames but should have more.

    With a variable frame rate the stated number is an estimate; then the last time stamp counts.
    """
    if not number:
        raise InputError(f"{path}: no frame can be decoded; is it complete, and its codec usual?")
    if max(number, source.seen_s * source.fps + 1) < MIN_COMPLETE * source.frames:
        raise InputError(
            f"{path}: the video ends after {number} of {source.frames} frames; is it complete?"
        )


def _open(path: Path) -> Image | Source:
    """Return an image, or an open video; raise InputError when the file is neither.

    A file with an unknown suffix is tried as an image first. Text is refused as a video: ffmpeg
    would render it, or follow a playlist into the network.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        refuse_pipe(path)
        return _open_video(path)
    try:
        return read_image(path)
    except InputError as fault:
        if suffix in PICTURE_SUFFIXES or not lookup.is_file(path) or _is_text(path):
            raise
        try:
            return _open_video(path)
        except (InputError, CameraError):
            raise fault from None


def _address(path: Path) -> str | None:
    """Return the address of which Path has made `rtsp:/host/stream`, None for other paths."""
    scheme, mark, rest = str(path).partition(":/")
    if mark and scheme.isalnum() and scheme != "file" and not lookup.is_folder(path.parent):
        return redact(f"{scheme}://{rest}")
    return None


def _open_video(path: Path) -> Source:
    absolute = lookup.expanded(str(path), InputError).absolute()  # a file named 0 is not a camera
    return open_source(CameraConfig(source=str(absolute), realtime=False))


def _is_text(path: Path) -> bool:
    """Return whether a file looks like text: no zero byte at its beginning, or unreadable."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return b"\0" not in file.read(4096)
    return True


def _frames(source: Source) -> Iterator[Image]:
    while (bgr := source.read()) is not None:
        yield bgr
