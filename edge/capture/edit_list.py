"""Tells how long an MP4 or MOV file plays where its edit list shows only a part of what it holds.

A cut without encoding (`ffmpeg -ss 1.3 -c copy`, a phone's trimming) keeps the frames back to the
key frame before the cut. They count among the frames that the file states, and its edit list hides
them from every decoder.
Source: ISO/IEC 14496-12 (ISO base media file format), boxes `mvhd`, `hdlr` and `elst`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_INDEX_BYTES = 64 * 1024 * 1024  # of the box `moov`; that of a day's video has 30 MB


def shown_s(path: Path) -> float | None:
    """Return the seconds of video that a file's edit list shows.

    None without an edit list, and for every other kind of file.
    """
    try:
        with path.open("rb") as file:
            return _shown_s(_index(file))
    except (OSError, ValueError, struct.error):  # cut off, or something else
        return None


def _index(file: BinaryIO) -> bytes:
    """Return the content of the box `moov`, empty when there is none."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        left = size - 8
        if size == 1:  # the size follows in 64 bits
            left = struct.unpack(">Q", file.read(8))[0] - 16
        if kind == b"moov":
            return file.read(min(max(left, 0), MAX_INDEX_BYTES))
        if left < 0:  # its size is 0: it reaches to the file's end
            break
        file.seek(left, 1)
    return b""


def _shown_s(index: bytes) -> float | None:
    header = _content(index, b"mvhd")
    edits = next((_content(track, b"edts", b"elst") for track in _video_tracks(index)), b"")
    if not header or not edits:
        return None
    (timescale,) = struct.unpack_from(">I", header, 20 if header[0] else 12)
    (count,) = struct.unpack_from(">I", edits, 4)
    entry = struct.Struct(">Qq4x" if edits[0] else ">Ii4x")
    shown = 0
    for number in range(count):
        duration, media_time = entry.unpack_from(edits, 8 + number * entry.size)
        if duration == 0:  # to the end, wherever that is
            return None
        shown += duration if media_time >= 0 else 0  # else: nothing is shown yet
    return shown / timescale if shown and timescale else None


def _video_tracks(index: bytes) -> Iterator[bytes]:
    for kind, content in _boxes(index):
        if kind == b"trak" and _content(content, b"mdia", b"hdlr")[8:12] == b"vide":
            yield content


def _content(parent: bytes, *path: bytes) -> bytes:
    """Return the content of the first box below `parent` along a path of kinds, empty if none."""
    for wanted in path:
        parent = next((content for kind, content in _boxes(parent) if kind == wanted), b"")
    return parent


def _boxes(parent: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each box; 64-bit sizes occur at the top of a file only."""
    start = 0
    while start + 8 <= len(parent):
        size, kind = struct.unpack_from(">I4s", parent, start)
        if size < 8:
            return
        yield kind, parent[start + 8 : start + size]
        start += size
