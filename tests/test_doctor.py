"""edge doctor on real brokers, sources and folders."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import msgspec
import pytest

from daemon import CLIP, Daemon
from edge import health, status_socket
from edge.cli import doctor, main
from edge.config import CameraConfig, Config, MqttConfig
from edge.messages import CameraHealth, Health, Report
from mosquitto import LOOPBACK, Login, Mosquitto
from relay import Relay
from viewed import health_of
from waiting import wait_until


def test_doctor_names_each_fault_and_its_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mosquitto_program: str
) -> None:
    (tmp_path / "password").write_text("wrong\n")
    config = tmp_path / "edge.yaml"
    with Mosquitto(tmp_path, login=Login("gate", "right")) as broker:
        config.write_text(
            f"state_dir: {tmp_path}/password/below\ndetector: {{model: yolo-best}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}, username: gate, "
            f"password_file: {tmp_path}/password}}\n"
            f"cameras: {{front: {{source: /dev/video63, open_timeout_s: 0.5}}}}\n"
        )
        assert main(["doctor", str(config)]) == 3
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line for line in printed.splitlines()}
    assert "is it plugged in" in lines["camera"]
    assert "yolo-best" in lines["models"]
    assert "check mqtt.username" in lines["broker"]
    assert "wrong" not in lines["broker"]
    assert lines["permissions"].startswith("fail")
    assert all(len(line.splitlines()) == 1 for line in lines.values())


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("mqtt: {password_file: /dev/null}", "mqtt.password_file is given without mqtt.username"),
        ("commands: {key_file: /nowhere/key}", "commands.key_file /nowhere/key: No such file"),
        ("log: {syslog: 'host:99999'}", "log.syslog"),
    ],
)
def test_doctor_finds_what_keeps_the_daemon_from_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, fault: str
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(f"state_dir: {tmp_path}\ncameras: {{front: {{source: {CLIP}}}}}\n{section}\n")
    assert main(["doctor", str(config)]) == 3
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " config " in line]
    assert line.startswith("fail")
    assert fault in line


def test_doctor_believes_a_connected_daemon_whose_password_it_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mosquitto_program: str
) -> None:
    environment = {**os.environ, "EDGE_MQTT_PASSWORD": "right"}
    with Mosquitto(tmp_path, login=Login("gate", "right")) as broker:
        mqtt = {"host": "127.0.0.1", "port": broker.port, "username": "gate"}
        with Daemon(tmp_path, broker.port, environment=environment, mqtt=mqtt) as daemon:
            daemon.wait_for_log("camera.state")
            wait_until(lambda: main(["status", str(daemon.config_path)]) == 0, 20)
            assert main(["doctor", str(daemon.config_path)]) == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("warn  bro")
    ]
    assert "not authorized, but the daemon is connected; is the password only in" in line


@pytest.mark.parametrize("host", ["a..b", 64 * "x" + ".lan"])
def test_doctor_explains_an_invalid_host_name(host: str) -> None:
    config = Config(cameras={"front": CameraConfig(source=0)}, mqtt=MqttConfig(host=host))
    finding = doctor.check_broker(config)
    assert finding.level is doctor.Level.FAIL
    assert f"mqtt.host {host}" in finding.text


def test_doctor_accepts_an_mqtt_3_1_1_broker_like_the_daemon(
    mosquitto: Mosquitto,
) -> None:
    with Relay(mosquitto.port, refuses_mqtt5=True) as relay:
        for protocol, level in (("auto", doctor.Level.OK), ("5", doctor.Level.FAIL)):
            mqtt = MqttConfig(host=LOOPBACK, port=relay.port, protocol=protocol)
            config = Config(cameras={"front": CameraConfig(source=0)}, mqtt=mqtt)
            assert doctor.check_broker(config).level is level


GIGABYTE = 10**9
HOT, WARM, COOL, UNREAD = (health.Condition(c, None, None, None, None) for c in (90, 76, 50, None))
THROTTLED = health.Throttling(("throttled",), ("throttled",))


@pytest.mark.parametrize(
    ("check", "name", "value", "level", "fix"),
    [
        ("temperature", "read_condition", HOT, "fail", "cool the board"),
        ("temperature", "read_condition", WARM, "warn", "cool the board"),
        ("temperature", "read_condition", COOL, "ok", ""),
        ("temperature", "read_condition", UNREAD, "ok", ""),
        ("throttling", "read_throttling", None, "ok", ""),
        ("throttling", "read_throttling", THROTTLED, "fail", "power supply"),
        ("throttling", "read_throttling", health.Throttling((), ("throttled",)), "warn", "power"),
        ("throttling", "read_throttling", health.Throttling((), ()), "ok", ""),
        ("clock", "is_clock_synchronized", False, "warn", "check the network"),
        ("clock", "is_clock_synchronized", None, "warn", "systemd-timesyncd"),
        ("clock", "is_clock_synchronized", True, "ok", ""),
    ],
)
def test_doctor_checks_the_board(
    monkeypatch: pytest.MonkeyPatch, check: str, name: str, value: object, level: str, fix: str
) -> None:
    monkeypatch.setattr(doctor, name, lambda: value)
    finding = doctor.checks("edge")[check](Config(cameras={"front": CameraConfig(source=0)}))
    assert finding.level == level
    assert fix in finding.fix
    assert bool(finding.fix) == (level != "ok")


@pytest.mark.parametrize(
    ("free_bytes", "level"),
    [(1_000_000, "fail"), (40_000_000, "warn"), (GIGABYTE, "ok")],
)
def test_doctor_checks_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, level: str
) -> None:
    usage = shutil._ntuple_diskusage(2 * GIGABYTE, 0, free_bytes)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage)
    config = Config(state_dir=str(tmp_path), cameras={"front": CameraConfig(source=0)})
    finding = doctor.check_disk(config)
    assert finding.level == level
    assert bool(finding.fix) == (level != "ok")


def test_doctor_without_permission_suggests_sudo() -> None:
    def check(_config: Config) -> doctor.Finding:
        raise PermissionError(13, "Permission denied", "/var/lib/edge")

    finding = doctor._run_check(check, Config(cameras={"front": CameraConfig(source=0)}))
    assert finding == doctor.Finding(
        doctor.Level.FAIL, "/var/lib/edge: no permission to look", "use sudo"
    )


def test_doctor_opens_the_camera_itself_when_no_daemon_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(
        f"state_dir: {tmp_path}\nmqtt: {{host: 127.0.0.1, port: 1}}\n"
        f"cameras: {{front: {{source: {CLIP}}}}}\n"
    )
    assert main(["doctor", str(config)]) == 3
    printed = capsys.readouterr().out
    assert "ok    camera      front: gives 640x480\n" in printed
    assert "127.0.0.1:1" in printed  # no listener there


@pytest.mark.parametrize("place", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
@pytest.mark.parametrize(
    ("bits", "now", "before"),
    [
        ("0x0", (), ()),
        ("50005", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("0x80002", ("clock capped",), ("soft temperature limit",)),
    ],
)
def test_throttling_is_read_as_the_firmware_writes_it(
    tmp_path: Path, place: str, bits: str, now: tuple[str, ...], before: tuple[str, ...]
) -> None:
    folder = tmp_path / "devices/platform" / place
    folder.mkdir(parents=True)
    (folder / "get_throttled").write_text(f"{bits}\n")
    assert health.read_throttling(tmp_path) == health.Throttling(now, before)
    assert health.read_throttling(tmp_path / "elsewhere") is None


def test_doctor_fails_when_one_of_the_cameras_is_lost_or_cannot_be_opened(tmp_path: Path) -> None:
    cameras = {"front": CameraConfig(source=0), "door": CameraConfig(source="/dev/video63")}
    config = Config(state_dir=str(tmp_path), cameras=cameras)
    lost = CameraHealth(state="lost", frame_age_s=None)
    for known, text in (({"door": lost}, "door: lost, says"), ({}, "door: cannot open")):
        health = Health(status="ok", cameras={**health_of("live").cameras, **known})
        report = msgspec.json.encode(Report(health=health, info=None, stats=None))
        with status_socket.StatusSocket(tmp_path, lambda report=report: report):
            found = doctor.check_camera(config, "edge")
        assert found.level == "fail"
        assert found.text.startswith(text)
        assert "front" not in found.text  # the fix is not for it


def test_doctor_does_not_wait_for_a_camera_that_refuses(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        source = f"http://{LOOPBACK}:{server.getsockname()[1]}/video"
    config = Config(state_dir=str(tmp_path), cameras={"gone": CameraConfig(source=source)})
    started_s = time.monotonic()
    assert f"gone: cannot open {source}" in doctor.check_camera(config, "edge").text
    assert time.monotonic() - started_s < config.cameras["gone"].open_timeout_s


def test_doctor_tries_several_cameras_at_once_and_finds_the_one_that_is_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        source = f"http://{LOOPBACK}:{silent.getsockname()[1]}/video"
        dead = CameraConfig(source=source, open_timeout_s=5, read_timeout_s=5)
        cameras = {"a": dead, "b": dead, "c": dead, "clip": CameraConfig(source=str(CLIP))}
        started_s = time.monotonic()
        found = doctor.check_camera(Config(state_dir=str(tmp_path), cameras=cameras), "edge")
    assert time.monotonic() - started_s < 25  # one after the other: over 36 s
    assert found.level == "fail"
    assert all(f"{name}: cannot open {source}: check address" in found.text for name in "abc")
    assert "clip" not in found.text
    assert capfd.readouterr() == ("", "")


def test_doctor_names_the_pictures_of_several_cameras(tmp_path: Path) -> None:
    cameras = {name: CameraConfig(source=str(CLIP)) for name in ("front", "door")}
    found = doctor.check_camera(Config(state_dir=str(tmp_path), cameras=cameras), "edge")
    assert found == doctor.Finding(doctor.Level.OK, "front: gives 640x480; door: gives 640x480")
