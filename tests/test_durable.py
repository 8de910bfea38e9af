"""What must survive a power cut is asked of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge import durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and sizes of what is brought to the disk, in order."""
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


def test_a_folder_is_synced_and_closed(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    durable.sync_folder(tmp_path)
    assert [name for name, _ in synced] == [tmp_path.name]
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    with pytest.raises(FileNotFoundError):
        durable.sync_folder(tmp_path / "none")
