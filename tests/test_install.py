"""`edge install-service` on real folders; with a real systemd: tests/systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge import config_file, install
from edge.cli import main
from edge.errors import EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE
from edge.install import Place
from installing import PROGRAM, call, tree

ROOT = Path(__file__).parents[1]


def test_image_gets_units_a_valid_config_and_the_complete_example(tmp_path: Path) -> None:
    assert call(tmp_path) == EXIT_OK
    assert set(tree(tmp_path)) == {
        "etc/edge/edge.yaml",
        "etc/edge/edge.example.yaml",
        "etc/edge/environment",
        "etc/sysusers.d/edge.conf",
        "etc/tmpfiles.d/edge.conf",
        "etc/systemd/system/edge.service",
        "etc/systemd/system/edge@.service",
        "etc/systemd/system/edge-rpicam.socket",
        "etc/systemd/system/edge-rpicam@.service",
    }
    assert config_file.load(tmp_path / "etc/edge/edge.yaml").cameras


def test_service_may_read_what_root_of_any_umask_installs(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    before = os.umask(0o077)
    try:
        assert call(image) == EXIT_OK
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    for path in image.rglob("*"):
        wanted = 0o755 if path.is_dir() else 0o644
        assert path.is_symlink() or path.stat().st_mode & 0o777 == wanted, path


def test_second_install_reports_that_nothing_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(tmp_path)
    before = tree(tmp_path)
    capsys.readouterr()
    assert call(tmp_path) == EXIT_OK
    assert tree(tmp_path) == before
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "unchanged",
        "unchanged",
        "unchanged",
        "unchanged",
        "unchanged",
        "keep",
        "keep",
        "unchanged",
        "unchanged",
        "unchanged",
    ]


def test_daemon_is_enabled_in_an_image_unless_disabled_by_option(tmp_path: Path) -> None:
    link = Path("etc/systemd/system/multi-user.target.wants/edge.service")
    for name, more, is_enabled in (
        ("image", [], True),
        ("quiet", ["--no-start"], False),
        ("package", ["--units-dir", "/usr/lib/systemd/system"], False),
    ):
        (tmp_path / name).mkdir()
        call(tmp_path / name, "install-service", *more)
        assert (tmp_path / name / link).is_symlink() is is_enabled
    assert (tmp_path / "image" / link).readlink() == Path("/etc/systemd/system/edge.service")


def test_existing_config_is_kept_and_an_old_unit_replaced(tmp_path: Path) -> None:
    call(tmp_path)
    fresh = tree(tmp_path)
    config = tmp_path / "etc/edge/edge.yaml"
    config.write_text("cameras: {door: {source: 1}}\n")
    (tmp_path / "etc/systemd/system/edge.service").write_text("[Unit]\n")
    call(tmp_path)
    assert tree(tmp_path) == {**fresh, "etc/edge/edge.yaml": "cameras: {door: {source: 1}}\n"}


@pytest.mark.parametrize("command", ["install-service", "uninstall-service"])
def test_dry_run_prints_the_actions_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    if command == "uninstall-service":
        call(tmp_path)
    before = tree(tmp_path)
    capsys.readouterr()
    assert call(tmp_path, command, "--dry-run") == EXIT_OK
    assert tree(tmp_path) == before
    assert f"{tmp_path}/etc/systemd/system/edge.service" in capsys.readouterr().out


def test_template_has_config_and_state_of_its_own_for_each_instance(tmp_path: Path) -> None:
    call(tmp_path)
    units = tmp_path / "etc/systemd/system"
    plain, template = ((units / name).read_text() for name in (install.UNIT, install.TEMPLATE))
    changed = {
        (old, new)
        for old, new in zip(plain.splitlines(), template.splitlines(), strict=True)
        if old != new and not old.startswith("#")
    }
    assert changed == {
        (
            "Description=Camera detection over MQTT (edge)",
            "Description=Camera detection over MQTT (edge, %i)",
        ),
        (
            f"ExecStart={PROGRAM} run --config /etc/edge/edge.yaml",
            f"ExecStart={PROGRAM} run --config /etc/edge/%i.yaml",
        ),
        ("StateDirectory=edge", "StateDirectory=edge-%i"),
        ("RuntimeDirectory=edge", "RuntimeDirectory=edge-%i"),
    }


@pytest.mark.parametrize("program", [None, "/usr/local/bin/edge"])
def test_unit_in_an_image_starts_the_named_program_else_the_usual_one(
    tmp_path: Path, program: str | None
) -> None:
    call(tmp_path, "install-service", *(["--program", program] if program else []))
    for name in (install.UNIT, install.TEMPLATE):
        unit = (tmp_path / "etc/systemd/system" / name).read_text()
        assert f"ExecStart={program or PROGRAM} run" in unit


def test_sysusers_and_tmpfiles_are_valid(tmp_path: Path) -> None:
    """The group of the cameras and the folder of the secrets, created by systemd's own programs."""
    programs = [shutil.which(name) for name in ("systemd-sysusers", "systemd-tmpfiles")]
    if None in programs or os.geteuid() != 0:
        pytest.skip("needs root, systemd-sysusers and systemd-tmpfiles")
    call(tmp_path)
    for program, more in zip(programs, ([], ["--create"]), strict=True):
        command = [program, f"--root={tmp_path}", *more, "edge.conf"]
        subprocess.run(command, check=True, capture_output=True)
    assert "video:" in (tmp_path / "etc/group").read_text()
    assert (tmp_path / "etc/credstore").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("program", ["edge", "/opt/my edge/bin/edge", "/opt/%i/edge"])
def test_program_path_not_allowed_in_a_unit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    code = main(["install-service", "--root", str(tmp_path), "--program", program])
    assert code == EXIT_UNAVAILABLE
    assert "name an absolute path" in capsys.readouterr().err
    assert tree(tmp_path) == {}


def test_program_hidden_by_the_sandbox_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "is_running_system", property(lambda _self: True))
    monkeypatch.setattr(install, "_check_systemd", lambda _place: None)
    monkeypatch.setattr(install, "_HIDDEN_FROM_SERVICE", (str(tmp_path),))
    program = tmp_path / "edge"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(install.InstallError, match="the service cannot see"):
        install.install_steps(Place(tmp_path), program)


@pytest.mark.parametrize("closed", ["opt/edge", "opt/edge/bin", "opt/edge/bin/edge"])
def test_program_that_the_services_user_may_not_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setattr(Place, "is_running_system", property(lambda _self: True))
    monkeypatch.setattr(install, "_check_systemd", lambda _place: None)
    monkeypatch.setattr(install, "_HIDDEN_FROM_SERVICE", ())
    program = tmp_path / "opt/edge/bin/edge"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / closed).chmod(0o750)
    fault = f"{tmp_path / closed}: other users may not read it, nor may the service; chmod -R"
    with pytest.raises(install.InstallError, match=re.escape(fault)):
        install.install_steps(Place(tmp_path), program)


def test_missing_systemd_is_an_error_that_suggests_root(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/run/systemd/system").is_dir() and shutil.which("systemctl"):
        pytest.skip("systemd runs here")
    assert main(["install-service", "--dry-run"]) == EXIT_UNAVAILABLE
    error = capsys.readouterr().err
    assert error.startswith("edge: systemd does not run here")
    assert "--root DIR" in error
    assert len(error.splitlines()) == 1


def test_missing_root_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path / "absent") == EXIT_UNAVAILABLE
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["loop", "etc/systemd/system/edge.service", "etc/edge"])
def test_obstructing_path_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if path.suffix else path.symlink_to(path.name)
    assert call(path if place == "loop" else tmp_path) == EXIT_UNAVAILABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line


@pytest.mark.parametrize("command", ["install-service", "uninstall-service"])
@pytest.mark.parametrize("folder", ["etc", "etc/edge", "etc/systemd/system", "var/lib"])
def test_link_out_of_an_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, folder: str
) -> None:
    """As in images with a data partition, /etc/edge -> /data/edge: on this machine another one."""
    image, host = tmp_path / "image", tmp_path / "host"
    (host / "edge").mkdir(parents=True)
    (host / "edge/spool").write_text("of this machine")
    link = image / folder
    link.parent.mkdir(parents=True)
    link.symlink_to(host)
    more = ["--purge"] if command == "uninstall-service" else []
    assert call(image, command, *more) == EXIT_UNAVAILABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert f": a link leads to {host}" in line
    assert line.endswith(f", out of {image}; make that link relative")
    assert tree(host) == {"edge/spool": "of this machine"}


def test_link_within_an_image_is_followed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "etc/edge").symlink_to("../data")
    assert call(tmp_path) == EXIT_OK
    assert (tmp_path / "data/edge.yaml").exists()


def test_masked_unit_is_replaced_and_what_it_is_linked_to_stays(tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.touch(mode=0o600)
    unit = tmp_path / "etc/systemd/system/edge.service"
    unit.parent.mkdir(parents=True)
    unit.symlink_to(null)
    assert call(tmp_path) == EXIT_OK
    assert "ExecStart" in unit.read_text()
    assert not unit.is_symlink()
    assert (null.stat().st_size, null.stat().st_mode & 0o777) == (0, 0o600)


def test_unit_that_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/edge.service"
    unit.parent.mkdir(parents=True)
    unit.write_bytes(b"\xff")
    assert call(tmp_path) == EXIT_OK
    assert "ExecStart" in unit.read_text()


@pytest.mark.parametrize("folder", ["units", "/", "/units", "/a/../b"])
def test_invalid_units_dir_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(tmp_path, "install-service", "--units-dir", folder)
    assert ended.value.code == EXIT_USAGE
    assert f"{folder!r} is not a folder such as /etc/systemd/system" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["install-service", "uninstall-service"])
def test_empty_root_is_a_usage_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """As from a script whose variable is empty."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([command, "--root", ""])
    assert ended.value.code == EXIT_USAGE
    assert "--root: empty; name the image's folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["install-service", "uninstall-service"])
def test_service_of_the_debian_package_is_left_to_apt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    packaged = tmp_path / "usr/lib/systemd/system/edge.service"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("[Unit]\n")
    assert call(tmp_path, command) == EXIT_UNAVAILABLE
    assert "Debian package" in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_named_with_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").write_text("a file where the folder should be")
    assert call(tmp_path) == EXIT_UNAVAILABLE
    error = capsys.readouterr().err
    assert "etc/systemd/system/edge.service" in error
    assert len(error.splitlines()) == 1
