"""What install-service and uninstall-service ask of systemctl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edge import install
from edge.install import Place


@pytest.fixture
def systemctl_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls to systemctl, which these tests replace by a fake."""
    commands: list[str] = []

    def take(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(" ".join(command))
        is_refused = "stop" in command
        return subprocess.CompletedProcess(command, int(is_refused), "", "Access\ndenied\n")

    monkeypatch.setattr(Place, "is_running_system", True)
    monkeypatch.setattr(install, "_check_systemd", lambda _place: None)
    monkeypatch.setattr(install, "_PACKAGE", Path("/opt/edge/lib"))
    monkeypatch.setattr(install.subprocess, "run", take)
    return commands


def test_systemctl_is_called_only_for_what_changed(
    tmp_path: Path, systemctl_calls: list[str]
) -> None:
    def placed(*, is_started: bool = True) -> list[str]:
        systemctl_calls.clear()
        steps = install.install_steps(Place(tmp_path), Path("/bin/sh"), is_started=is_started)
        list(install.run(steps, is_dry=False))
        return list(systemctl_calls)

    made = ["systemd-sysusers edge.conf", "systemd-tmpfiles --create edge.conf"]
    start = "systemctl enable --now edge.service"
    assert placed() == [
        *made, "systemctl daemon-reload", "systemctl try-restart edge.service", start,
    ]  # fmt: skip
    assert placed() == [start]
    for unit in ("edge.service", "edge@.service", *install.MODULE_UNITS):
        (tmp_path / "etc/systemd/system" / unit).write_text("old")
        assert placed(is_started=False) == ["systemctl daemon-reload"]
    (tmp_path / "etc/edge/edge.example.yaml").write_text("old")
    assert placed() == [start]  # no unit changed: the daemon goes on


def test_service_that_is_absent_is_not_stopped(tmp_path: Path, systemctl_calls: list[str]) -> None:
    list(install.run(install.uninstall_steps(Place(tmp_path)), is_dry=False))
    assert systemctl_calls == ["systemctl daemon-reload"]


def test_service_is_stopped_before_its_units_are_removed(
    tmp_path: Path, systemctl_calls: list[str]
) -> None:
    unit = tmp_path / "etc/systemd/system/edge.service"
    unit.parent.mkdir(parents=True)
    for path in (unit, unit.with_name(install.MODULE_SOCKET)):
        path.write_text("")
    steps = install.uninstall_steps(Place(tmp_path))
    fault = r"stop edge@\*\.service edge-rpicam@\*\.service: Access denied$"
    with pytest.raises(install.InstallError, match=fault):
        list(install.run(steps, is_dry=False))
    assert systemctl_calls == [
        "systemctl disable --now edge.service",
        "systemctl disable --now edge-rpicam.socket",
        "systemctl stop edge@*.service edge-rpicam@*.service",
    ]
    assert unit.exists()
