"""The unit file: what the daemon relies on, and that systemd knows every key."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.errors import EXIT_CONFIG

UNIT = Path(__file__).parents[1] / "systemd" / "edge.service"
# systemd-analyze's exposure, times ten; 17 when this was written.
MOST_EXPOSURE = 20


def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser["Service"]


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
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
    ],
)
def test_unit_says_what_the_daemon_relies_on(key: str, value: str) -> None:
    assert service()[key] == value


@pytest.fixture
def installed_unit(tmp_path: Path) -> Path:
    """The unit with a program that exists, as systemd-analyze asks for one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/edge/bin/edge", "/bin/true"))
    return path


def test_systemd_knows_every_key(installed_unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", installed_unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # unknown keys only warn


def test_exposure_stays_low(installed_unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}"]
    done = subprocess.run([*command, installed_unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
