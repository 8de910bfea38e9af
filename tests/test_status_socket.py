"""`edge status` where the daemon's answer is not what this command expects."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edge import status_socket
from edge.cli import main
from edge.errors import EXIT_UNAVAILABLE


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "edge.yaml"
    path.write_text(f"state_dir: {tmp_path}\ncameras: {{front: {{source: 0}}}}\n")
    return str(path)


def test_daemon_of_another_version_is_named(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with status_socket.StatusSocket(tmp_path, lambda: b'{"health":{"pulse":70}}'):
        assert main(["status", config]) == EXIT_UNAVAILABLE
    assert capsys.readouterr() == ("", f"edge: {tmp_path}: the daemon is of another version\n")


def test_user_who_may_not_ask_is_told_of_sudo(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(folder: Path) -> AbstractContextManager[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(status_socket, "_short", closed)
    assert main(["status", config]) == EXIT_UNAVAILABLE
    assert capsys.readouterr() == ("", f"edge: {tmp_path}: no permission to ask; use sudo\n")
