"""The manager is a real datagram socket; /sys and /proc are real files in a folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.health import Condition, Notifier, is_clock_synchronized, read_condition


class Manager:
    """The listening end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(5)

    def received(self) -> list[str]:
        """Everything sent so far; a datagram on a local socket arrives before sendto returns."""
        self.socket.setblocking(False)
        texts = []
        while True:
            try:
                texts.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return texts


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@edge-test-{os.getpid()}"
    manager = Manager(address)
    yield manager
    manager.socket.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    yield notifier
    notifier.close()


def test_life_cycle_reaches_the_service_manager(manager: Manager, notifier: Notifier) -> None:
    notifier.status("loading")
    notifier.ready("2 cameras")
    notifier.reloading()
    notifier.stopping()
    status, ready, reloading, stopping = manager.received()
    assert status == "STATUS=loading"
    assert ready == "READY=1\nSTATUS=2 cameras"
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert int(reloading.rpartition("=")[2]) > 0
    assert stopping == "STOPPING=1"


def test_line_break_in_status_cannot_forge_another_variable(
    manager: Manager, notifier: Notifier
) -> None:
    notifier.status("camera lost\nREADY=1")
    assert manager.received() == ["STATUS=camera lost READY=1"]


def test_watchdog_is_fed_on_progress_every_half_period(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    now_s = [100.0]
    notifier = Notifier(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"}, clock=lambda: now_s[0]
    )
    for second in range(31):
        now_s[0] = 100.0 + second
        notifier.progress()
    assert manager.received() == ["WATCHDOG=1"] * 3  # at 0, 15 and 30 s
    now_s[0] = 200.0
    assert manager.received() == []  # no progress, no feeding
    notifier.close()
    manager.socket.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
def test_watchdog_of_another_process_is_ignored(environment: dict[str, str]) -> None:
    assert Notifier(environment).watchdog_s is None


def test_watchdog_period_is_read_for_this_process() -> None:
    environment = {"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(environment).watchdog_s == 1.5


def test_without_a_service_manager_every_call_does_nothing() -> None:
    notifier = Notifier({})
    notifier.ready("running")
    notifier.progress()
    notifier.close()


def test_vanished_service_manager_is_not_an_error(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.ready("running")
    notifier.close()
    notifier.ready("running")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_condition_is_read_from_sys_and_proc(tmp_path: Path) -> None:
    zones = tmp_path / "sys/class/thermal"
    write(zones / "thermal_zone0/type", "wifi\n")
    write(zones / "thermal_zone0/temp", "91000\n")
    write(zones / "thermal_zone1/type", "cpu-thermal\n")
    write(zones / "thermal_zone1/temp", "54321\n")
    write(zones / "thermal_zone2/type", "soc_thermal\n")
    write(zones / "thermal_zone2/temp", "-274000\n")  # a sensor that is switched off
    write(zones / "thermal_zone3/type", "cpu1-thermal\n")
    write(zones / "thermal_zone3/temp", "51000\n")  # the hottest counts
    cpufreq = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    write(cpufreq / "scaling_governor", "ondemand\n")
    write(cpufreq / "scaling_cur_freq", "1500000\n")
    write(tmp_path / "proc/self/status", "Name:\tedge\nVmRSS:\t   51200 kB\n")
    write(tmp_path / "proc/loadavg", "1.25 0.80 0.60 1/200 4242\n")
    assert read_condition(tmp_path / "sys", tmp_path / "proc") == Condition(
        temperature_c=54.321,
        cpu_governor="ondemand",
        cpu_hz=1_500_000_000,
        rss_bytes=51200 * 1024,
        load_1min=1.25,
    )


def test_missing_sensors_are_none(tmp_path: Path) -> None:
    assert read_condition(tmp_path, tmp_path) == Condition(None, None, None, None, None)


@pytest.mark.parametrize(
    ("bits", "is_hot"), [("0", False), ("e0000", False), ("4", True), ("8", True), ("50005", False)]
)
def test_board_is_hot_only_while_firmware_throttles_for_heat(
    tmp_path: Path, bits: str, *, is_hot: bool
) -> None:
    write(tmp_path / "devices/platform/soc/soc:firmware/get_throttled", f"{bits}\n")
    assert read_condition(tmp_path, tmp_path).is_hot is is_hot


def test_thermal_zone_of_unknown_type_is_the_fallback(tmp_path: Path) -> None:
    write(tmp_path / "class/thermal/thermal_zone0/type", "acpitz\n")
    write(tmp_path / "class/thermal/thermal_zone0/temp", "40000\n")
    assert read_condition(tmp_path, tmp_path).temperature_c == 40.0


def test_this_machine_reports_its_memory_and_load() -> None:
    condition = read_condition()
    assert condition.rss_bytes is not None
    assert condition.rss_bytes > 1_000_000
    assert condition.load_1min is not None


def test_clock_is_synchronized_once_the_time_service_says_so(tmp_path: Path) -> None:
    timesync = tmp_path / "timesync"
    assert is_clock_synchronized(timesync) is None
    timesync.mkdir()
    assert is_clock_synchronized(timesync) is False
    (timesync / "synchronized").touch()
    assert is_clock_synchronized(timesync) is True
