"""Files that must survive a power cut are synced to the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from disk import full_disk
from edge import durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and sizes of synced files, in order."""
    order: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        order.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, size))

    monkeypatch.setattr(os, "fsync", fsync)
    return order


def test_a_file_is_synced_whole(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    durable.write(tmp_path / "state", b"former, longer")
    durable.write(tmp_path / "state", b"content")
    assert (tmp_path / "state").read_bytes() == b"content"
    assert synced == [("state", 14), ("state", 7)]


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".jpg")
    durable.replace(path, b"content")
    assert path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_synced_and_closed(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    durable.sync_folder(tmp_path)
    assert [name for name, _ in synced] == [tmp_path.name]
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    with pytest.raises(FileNotFoundError):
        durable.sync_folder(tmp_path / "none")


def test_a_file_is_replaced_whole(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    path = tmp_path / "edge.prom"
    durable.replace(path, b"former, longer")
    with path.open("rb") as reader, durable.replacing(path) as file:
        file.write(b"content")
        file.flush()
        assert path.read_bytes() == b"former, longer"
        assert list(tmp_path.glob("*.prom")) == [path]
        first = reader.read()
    assert (first, path.read_bytes()) == (b"former, longer", b"content")
    assert list(tmp_path.iterdir()) == [path]
    assert synced == []


def test_content_is_synced_before_the_rename(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    durable.replace(tmp_path / "state", b"content", is_synced=True)
    assert synced == [(".state.part", 7)]


def test_mode_is_the_requested_one_or_from_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for name, mode in (("own", None), ("shared", 0o644)):
            durable.replace(tmp_path / name, b"", mode=mode)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("own", "shared")]
    assert modes == [0o600, 0o644]


def test_full_disk_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    durable.replace(path, b"former")
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        durable.replace(path, bytes(9999))
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_in_the_block_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "state"
    durable.replace(path, b"former")

    def fail() -> None:
        with durable.replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_leftover_temporary_file_is_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "state", tmp_path / "other"
    other.write_bytes(b"of root")
    (tmp_path / ".state.part").symlink_to(other)
    durable.replace(path, b"content")
    assert (path.read_bytes(), other.read_bytes()) == (b"content", b"of root")
    assert not path.is_symlink()
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_temporary_file_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".state.part").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.replace(tmp_path / "state", b"content")


def test_errors_name_the_file_and_not_its_temporary_file(tmp_path: Path) -> None:
    (tmp_path / ".state.part").mkdir()
    with pytest.raises(OSError, match="state") as caught:
        durable.replace(tmp_path / "state", b"content")
    assert caught.value.filename == str(tmp_path / "state")
    with pytest.raises(FileNotFoundError) as other, durable.replacing(tmp_path / "next"):
        (tmp_path / "missing").read_bytes()
    assert other.value.filename == str(tmp_path / "missing")
