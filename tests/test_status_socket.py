"""How `edge status` and `edge doctor` use the daemon's answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest

from edge import config_file, status_socket
from edge.cli import doctor, main
from edge.config import CameraConfig, Config
from edge.errors import EXIT_UNAVAILABLE
from edge.messages import Report
from viewed import health_of

ROOT = Path(__file__).parent.parent


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


def test_user_without_permission_gets_a_hint_to_sudo(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(folder: Path) -> AbstractContextManager[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(status_socket, "_short_name", closed)
    assert main(["status", config]) == EXIT_UNAVAILABLE
    assert capsys.readouterr() == ("", f"edge: {tmp_path}: no permission to ask; use sudo\n")


@pytest.mark.parametrize(
    ("camera", "is_well", "levels"),
    [
        ("live", True, ("ok", "ok")),
        ("opening", True, ("ok", "warn")),
        ("lost", True, ("ok", "fail")),
        ("live", False, ("fail", "ok")),
    ],
)
def test_doctor_uses_the_state_reported_by_the_daemon(
    tmp_path: Path, camera: str, levels: tuple[str, str], *, is_well: bool
) -> None:
    health = health_of(camera, "ok" if is_well else "failing")
    report = msgspec.json.encode(Report(health=health, info=None, stats=None))
    # This source does not exist: opening it fails.
    source = CameraConfig(source=str(tmp_path / "none.mp4"))
    config = Config(state_dir=str(tmp_path), cameras={"front": source})
    with status_socket.StatusSocket(tmp_path, lambda: report):
        found = doctor.check_daemon(config, "edge"), doctor.check_camera(config, "edge")
    assert tuple(one.level for one in found) == levels
    assert found[1].text == f"front: {camera}, says the daemon"
    assert [bool(one.fix) for one in found] == [level != "ok" for level in levels]
    unanswered = doctor.check_daemon(config, "edge")
    assert unanswered.level is doctor.Level.WARN


@contextmanager
def answering(state_dir: Path, report: bytes) -> Iterator[None]:
    """A daemon that sends its report to one client, a few kilobytes at a time."""

    def serve() -> None:
        client, _ = listener.accept()
        with client, suppress(BrokenPipeError):  # the client may have enough
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least
            client.sendall(report)

    with socket.socket(socket.AF_UNIX) as listener:
        with status_socket._short_name(state_dir) as folder:
            listener.bind(f"{folder}/{status_socket.NAME}")
        listener.listen(1)
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)
        assert not thread.is_alive()


def test_report_arrives_whole_in_however_many_parts(tmp_path: Path) -> None:
    report = bytes(range(256)) * 2000
    with answering(tmp_path, report):
        assert status_socket.ask(tmp_path) == report


def test_report_without_an_end_is_cut_off(tmp_path: Path) -> None:
    with answering(tmp_path, bytes(4 * status_socket.MAX_BYTES)):
        answer = status_socket.ask(tmp_path)
    assert answer is not None
    assert status_socket.MAX_BYTES <= len(answer) < 2 * status_socket.MAX_BYTES


def test_hanging_daemon_is_not_waited_for_but_told_of(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_socket, "ask", partial(status_socket.ask, timeout_s=0.05))
    with socket.socket(socket.AF_UNIX) as listener:
        with status_socket._short_name(tmp_path) as folder:
            listener.bind(f"{folder}/{status_socket.NAME}")
        listener.listen(1)
        assert main(["status", config]) == EXIT_UNAVAILABLE
        found = doctor.check_daemon(config_file.load(Path(config)), "edge")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"edge: the daemon in {tmp_path} hangs; restart it: systemctl restart edge"
    assert (found.level, found.fix) == (doctor.Level.FAIL, "systemctl restart edge")


def test_daemon_that_ends_without_a_word_has_not_answered(tmp_path: Path) -> None:
    with answering(tmp_path, b""):
        assert status_socket.ask(tmp_path) is None


def test_status_starts_without_opencv(tmp_path: Path, config: str) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, "-m", "edge", "status", config],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (EXIT_UNAVAILABLE, "")
