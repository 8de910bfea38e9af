"""`edge uninstall-service` on real folders, and the removal of the Debian package."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge import install
from edge.errors import EXIT_OK
from installing import call, tree

ROOT = Path(__file__).parents[1]


def test_uninstall_keeps_config_and_state_until_purged(tmp_path: Path) -> None:
    call(tmp_path)
    spool = tmp_path / "var/lib/private/edge/spool.sqlite"
    spool.parent.mkdir(parents=True)
    spool.write_text("events")
    (tmp_path / "var/lib/edge").symlink_to("private/edge")
    dropin = tmp_path / "etc/systemd/system/edge.service.d/local.conf"
    dropin.parent.mkdir()
    dropin.write_text("[Service]\n")
    module = dropin.parents[1] / "edge-rpicam@.service.d"
    module.mkdir()
    assert call(tmp_path, "uninstall-service") == EXIT_OK
    units = tmp_path / "etc/systemd/system"
    assert [path.name for path in units.iterdir() if path.is_file()] == []
    assert not list(tmp_path.glob("etc/*.d/edge.conf"))
    assert spool.exists()
    assert dropin.exists()
    assert module.exists()
    assert (tmp_path / "etc/edge/edge.yaml").exists()
    assert call(tmp_path, "uninstall-service", "--purge") == EXIT_OK
    assert call(tmp_path, "uninstall-service", "--purge") == EXIT_OK  # nothing left to do
    assert tree(tmp_path) == {}
    assert not (tmp_path / "var/lib/edge").is_symlink()


def instances(root: Path) -> dict[str, Path]:
    """Folders of state below a root, by the name of their instance; `else` is not edge's."""
    etc = root / "etc"
    wants = etc / "systemd/system/multi-user.target.wants"
    for folder in (etc / "edge", wants, etc / "systemd/system/edge@attic.service.d"):
        folder.mkdir(parents=True, exist_ok=True)
    (etc / "edge/door-2.yaml").write_text("cameras: {door: {source: 1}}\n")
    (wants / "edge@yard.service").symlink_to(f"/etc/systemd/system/{install.TEMPLATE}")
    (wants / install.MODULE_SOCKET).symlink_to(f"/etc/systemd/system/{install.MODULE_SOCKET}")
    folders = {}
    for name in ("door-2", "yard", "attic", "else"):
        folders[name] = root / f"var/lib/private/edge-{name}"
        folders[name].mkdir(parents=True)
        (root / f"var/lib/edge-{name}").symlink_to(f"private/edge-{name}")
    return folders


def test_purge_removes_the_state_of_instances_and_no_other_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(tmp_path)
    folders = instances(tmp_path)
    assert call(tmp_path, "uninstall-service", "--purge") == EXIT_OK
    assert [name for name, folder in folders.items() if folder.exists()] == ["else"]
    assert [path.name for path in (tmp_path / "var/lib").iterdir() if path.is_symlink()] == [
        "edge-else"
    ]
    assert f"keep {folders['else']}: of no known instance" in capsys.readouterr().out


def test_purge_that_failed_at_a_state_folder_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(tmp_path)
    folders = instances(tmp_path)
    remove = shutil.rmtree

    def busy(path: Path) -> None:
        if path == folders["door-2"]:  # a mount point
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(install.shutil, "rmtree", busy)
        assert call(tmp_path, "uninstall-service", "--purge") != EXIT_OK
    assert call(tmp_path, "uninstall-service", "--purge") == EXIT_OK
    assert not folders["door-2"].exists()


def test_purge_of_the_package_removes_only_the_state_of_instances(tmp_path: Path) -> None:
    folders = instances(tmp_path)
    script = (ROOT / "systemd/debian/postrm").read_text()
    for top in ("/etc/", "/var/lib/", "/run/"):
        script = script.replace(f" {top}", f" {tmp_path}{top}").replace(
            f'"{top}', f'"{tmp_path}{top}'
        )
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "rm").symlink_to(shutil.which("rm") or "rm")
    shell = ["/bin/sh", "-c", script, "postrm", "purge"]
    subprocess.run(shell, check=True, env={"PATH": str(commands)})
    assert [name for name, folder in folders.items() if folder.exists()] == ["else"]
    assert [path.name for path in (tmp_path / "var/lib").iterdir() if path.is_symlink()] == [
        "edge-else"
    ]
    assert not list(tmp_path.rglob("edge@yard.service"))
    assert not list(tmp_path.rglob(install.MODULE_SOCKET))


def test_uninstall_leaves_no_dangling_unit_links(tmp_path: Path) -> None:
    call(tmp_path)
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    assert [link.name for link in wants.iterdir()] == [install.UNIT]
    # As `systemctl enable` does.
    (wants / "edge@door.service").symlink_to(f"/etc/systemd/system/{install.TEMPLATE}")
    (wants / install.MODULE_SOCKET).symlink_to(f"/etc/systemd/system/{install.MODULE_SOCKET}")
    (wants / "other.service").symlink_to("/etc/systemd/system/other.service")
    assert call(tmp_path, "uninstall-service") == EXIT_OK
    assert [link.name for link in wants.iterdir()] == ["other.service"]
