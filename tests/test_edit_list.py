"""How much of a video its edit list shows, for boxes that ffmpeg does not write."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from edge.capture.edit_list import shown_s

TIMESCALE = 1000
SECOND = TIMESCALE


def box(kind: str, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind.encode()) + content


def track(handler: str, edits: list[tuple[int, int]], *, is_long: bool = False) -> bytes:
    entry = ">QqI" if is_long else ">IiI"
    entries = b"".join(struct.pack(entry, *edit, 1 << 16) for edit in edits)
    head = struct.pack(">B3xI", is_long, len(edits))
    named = bytes(8) + handler.encode() + bytes(12)
    return box("trak", box("edts", box("elst", head, entries)), box("mdia", box("hdlr", named)))


def movie(*tracks: bytes, is_long: bool = False) -> bytes:
    times = bytes(16 if is_long else 8)
    header = bytes([is_long, 0, 0, 0]) + times + struct.pack(">I", TIMESCALE) + bytes(80)
    return box("moov", box("mvhd", header), *tracks)


def shown(tmp_path: Path, content: bytes) -> float | None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(box("ftyp", b"isom") + content)
    return shown_s(path)


@pytest.mark.parametrize("is_long", [False, True], ids=["32 bits", "64 bits"])
def test_duration_is_the_sum_of_the_videos_edits_without_empty_ones(
    tmp_path: Path, is_long: bool
) -> None:
    video = track("vide", [(SECOND, -1), (2 * SECOND, 40), (3 * SECOND, 9000)], is_long=is_long)
    sound = track("soun", [(9 * SECOND, 0)])
    assert shown(tmp_path, movie(sound, video, is_long=is_long)) == 5.0


def test_index_after_a_64_bit_box_is_found(tmp_path: Path) -> None:
    data = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"video"
    assert shown(tmp_path, data + movie(track("vide", [(SECOND, 0)]))) == 1.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        movie(),
        movie(track("soun", [(SECOND, 0)])),
        movie(track("vide", [(0, 0)])),  # to the end
        movie(track("vide", [(SECOND, 0)]))[:-60],
        movie(track("vide", [])).replace(b"elst\0\0\0\0\0\0\0\0", b"elst\0\0\0\0\xff\xff\xff\xff"),
        struct.pack(">I4s", 0, b"mdat") + b"to the end of the file",
        struct.pack(">I4sQ", 1, b"mdat", 0) * 3,
        struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1),
        struct.pack(">I4sQ", 1, b"mdat", 2**63 - 1),
        struct.pack(">I4s", 2**32 - 1, b"moov") + struct.pack(">I4s", 0, b"mvhd") * 3,
    ],
)
def test_files_without_an_edit_list_and_broken_ones_give_none(
    tmp_path: Path, content: bytes
) -> None:
    assert shown(tmp_path, content) is None
