"""The units: settings the daemon relies on, keys known to systemd, security exposure."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from edge import install
from edge.errors import EXIT_CONFIG
from edge.publisher.options import CREDENTIAL_NAME

SOURCE = Path(__file__).parents[1] / "systemd" / "edge.service"
# systemd-analyze's exposure, times ten. Network, cameras, /proc and the host's root remain.
MOST_EXPOSURE = 15


def values(key: str) -> list[str]:
    """All values of a key of the section Service, in order."""
    lines = SOURCE.read_text().partition("[Service]")[2].splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", str(EXIT_CONFIG)),
        ("WatchdogSec", "30"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "edge"),
        ("RuntimeDirectory", "edge"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("DevicePolicy", "closed"),
        ("MemoryMax", "512M"),
        ("CPUQuota", "300%"),
    ],
)
def test_unit_has_the_settings_the_daemon_relies_on(key: str, value: str) -> None:
    assert values(key) == [value]


def test_only_camera_devices_are_allowed() -> None:
    assert values("DeviceAllow") == ["char-video4linux rw", "char-media rw"]


def test_password_credential_has_the_name_the_daemon_looks_for() -> None:
    names = [value.partition(":")[0] for value in values("LoadCredential")]
    assert CREDENTIAL_NAME in names


def test_unit_parses_as_sections_of_keys() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(SOURCE)
    assert parser.sections() == ["Unit", "Service", "Install"]


@pytest.fixture(params=[install.UNIT, "edge@door.service"])
def installed_unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with a program that exists, as systemd-analyze asks for one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = SOURCE.read_text().replace(install.DEFAULT_PROGRAM, "/bin/true")
    path = tmp_path / request.param
    path.write_text(text if request.param == install.UNIT else install.template(text))
    return path


def test_systemd_accepts_every_key(installed_unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", installed_unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # unknown keys only warn


def test_systemd_accepts_every_key_of_the_camera_module(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in install.MODULE_UNITS:
        text = SOURCE.with_name(name).read_text().replace("/usr/bin/rpicam-vid", "/bin/true")
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", tmp_path / install.MODULE_SOCKET]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_security_exposure_stays_low(installed_unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}"]
    done = subprocess.run([*command, installed_unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
