"""Operations: status, doctor, and metrics of a daemon, which serves most of the tests."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import Daemon
from edge import config_file, status_socket
from edge.cli import doctor, main, status
from edge.config import CameraConfig, Config
from edge.messages import CameraStats, MqttStats, Report, SpoolStats, Stats
from mosquitto import Mosquitto, free_port
from viewed import health_of
from waiting import wait_until


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, mosquitto_program: str, port: int
) -> Iterator[Daemon]:
    """A healthy daemon, with metrics on a port and in a file."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "broker").mkdir()
    wanted = {"port": port, "textfile": str(folder / "edge.prom")}
    with (
        Mosquitto(folder / "broker") as broker,
        Daemon(folder, broker.port, metrics=wanted) as daemon,
    ):
        wait_until((folder / "edge.prom").exists, 40)
        wait_until(lambda: "edge_events_total 0.0" not in (folder / "edge.prom").read_text(), 20)
        yield daemon


def test_status_of_a_healthy_daemon(watched: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(watched.config_path)]) == 0
    printed = capsys.readouterr().out
    assert "camera    front live" in printed
    assert "broker    connected" in printed
    assert "WRONG" not in printed
    assert main(["status", "--json", str(watched.config_path)]) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert report.info is not None
    assert report.info.device == "gate"


def test_metrics_over_http_and_in_the_file_match_the_stats(watched: Daemon, port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        served = answer.read().decode()
    for text in (served, (watched.folder / "edge.prom").read_text()):
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["edge_camera_live"].samples[0].value == 1
        assert families["edge_broker_connected"].samples[0].value == 1
        assert families["edge_frames_detected"].samples[0].value > 0
        assert {s.labels["cause"] for s in families["edge_frames_skipped"].samples} >= {"budget"}
        stages = {sample.labels["stage"] for sample in families["edge_stage_seconds"].samples}
        assert {"detector", "tracker"} <= stages
        assert all(0 <= s.value < 10 for s in families["edge_stage_seconds"].samples)
        latency = families["edge_latency_seconds"]  # a gauge may have no label `quantile`
        assert latency.type == families["edge_stage_seconds"].type == "summary"
        assert {s.labels["quantile"] for s in latency.samples} == {"0.5", "0.95", "0.99"}


def test_doctor_finds_no_fault_beside_a_healthy_daemon(
    watched: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json", str(watched.config_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(doctor.checks("edge"))
    for name in ("config", "daemon", "camera", "models", "broker", "permissions"):
        assert found[name]["level"] == "ok", found[name]


def test_socket_survives_clients_that_send_nothing(watched: Daemon) -> None:
    address = str(watched.folder / "state" / status_socket.NAME)
    idle = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for client in idle:
        client.connect(address)
    assert status_socket.ask(watched.folder / "state") is not None
    for client in idle:
        client.close()


def stats(**changes: object) -> Stats:
    """Stats of an idle daemon."""
    spool = SpoolStats(waiting=0, lost=0, used_bytes=0, written_bytes=0, failure="")
    known = {
        "boot_id": "b", "uptime_s": 1, "frames_per_s": 1, "detected": 1, "skipped": {}, "late": 0,
        "colors_shed": 0, "events": 0, "latency_ms": {}, "stages_ms": {}, "degraded": "",
        "cameras": {}, "spool": spool, "temperature_c": None, "cpu_governor": None,
        "cpu_hz": None, "load_1min": None, "rss_bytes": None,
        "mqtt": MqttStats(state="connected: MQTT 5"),
    }  # fmt: skip
    return Stats(**(known | changes))


@pytest.mark.parametrize(
    ("camera", "alive", "changes", "fault"),
    [
        ("lost", "ok", {}, "camera front lost"),
        ("", "failing", {}, "still starting"),
        ("live", "failing", {}, "no progress"),
        ("live", "ok", {"mqtt": MqttStats(state="refused: bad password")}, "refused"),
        ("live", "ok", {"spool": SpoolStats(waiting=0, lost=3, used_bytes=0, written_bytes=0,
                                            failure="disk full")}, "disk full"),
    ],
)  # fmt: skip
def test_status_names_each_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], camera: str, alive: str, changes: dict,
    fault: str,
) -> None:  # fmt: skip
    config = tmp_path / "edge.yaml"
    config.write_text(f"state_dir: {tmp_path}\ncameras: {{front: {{source: 0}}}}\n")
    state = health_of(camera, alive)
    report = Report(health=state, info=None, stats=stats(**changes))
    with status_socket.StatusSocket(tmp_path, lambda: msgspec.json.encode(report)):
        assert main(["status", str(config)]) == 3
    assert any(
        line.startswith("WRONG") and fault in line for line in capsys.readouterr().out.splitlines()
    )


def test_status_shows_the_stats_as_text() -> None:
    spool = SpoolStats(waiting=7, lost=3, used_bytes=0, written_bytes=0, failure="")
    current = stats(
        frames_per_s=9.5, detected=120, skipped={"stale": 4, "motion": 0, "budget": 2},
        detected_faster=30,
        latency_ms={"p50": 21.5, "p95": 40}, degraded="thermal", spool=spool, temperature_c=61.6,
        rss_bytes=107_400_000, uptime_s=60,
        mqtt=MqttStats(state="lost: no route", acknowledged=11),
    )  # fmt: skip
    paused = health_of("ended", frame_age_s=1.26, paused=True)
    report = Report(health=paused, info=None, stats=current)
    faults = status.faults_of(report, Path("/etc/edge/door.yaml"))
    assert [*status.lines_of(report), *faults] == [
        "camera    front ended, newest frame 1.3 s ago, paused: the command resume ends it",
        "frames    9.5 a second detected, 120 so far, 30 by the faster model",
        "skipped   stale 4, budget 2",
        "latency   p50 21.5 ms, p95 40 ms, degraded: thermal",
        "broker    lost: no route, 11 events acknowledged",
        "spool     7 waiting, 3 lost",
        "board     62 °C, 107 MB, up 60 s",
        "camera front ended; run edge doctor /etc/edge/door.yaml",
        "broker lost: no route; events wait in the spool",
        "3 events lost since the start; see the topic lost",
    ]


@pytest.mark.parametrize(
    ("skipped", "degraded", "level", "fix"),
    [
        (0, "", "ok", ""),
        (300, "", "ok", ""),  # over by now
        (100, "budget", "ok", ""),
        (101, "budget", "warn", "a smaller detector.faster_model"),
        (101, "thermal", "warn", "cool the board"),
        (101, "load", "warn", "other programs"),
    ],
)
def test_doctor_says_when_most_frames_miss_the_budget(
    tmp_path: Path, skipped: int, degraded: str, level: str, fix: str
) -> None:
    config = Config(state_dir=str(tmp_path), cameras={"front": CameraConfig(source=0)})
    assert doctor.check_budget(config).level == "ok"
    front = camera_stats(100, {"budget": skipped, "stale": 900})
    found = budget_finding(config, detected=100, cameras={"front": front}, degraded=degraded)
    assert found.text == f"100 frames detected, {skipped} skipped, for 200 ms"
    assert found.level == level
    assert fix in found.fix
    assert bool(found.fix) == (level != "ok")


def test_doctor_names_the_camera_whose_frames_miss_the_budget(tmp_path: Path) -> None:
    config = Config(state_dir=str(tmp_path), cameras={"front": CameraConfig(source=0)})
    cameras = {"front": camera_stats(100, {"budget": 1}), "door": camera_stats(2, {"thermal": 3})}
    found = budget_finding(config, detected=102, cameras=cameras, degraded="budget")
    assert found.level == "warn"
    assert found.text == "102 frames detected, 4 skipped, for 200 ms; of door most are skipped"


def camera_stats(detected: int, skipped: dict[str, int]) -> CameraStats:
    return CameraStats(
        state="live", frames=0, detected=detected, skipped=skipped, bad_frames=0, reconnects=0,
        hung=0,
    )  # fmt: skip


def budget_finding(config: Config, **changes: object) -> doctor.Finding:
    """What doctor finds beside a daemon with these stats."""
    current = Report(health=health_of("live"), info=None, stats=stats(**changes))
    report = msgspec.json.encode(current)
    with status_socket.StatusSocket(Path(config.state_dir), lambda: report):
        return doctor.check_budget(config)


def test_status_without_a_daemon_is_one_line_and_exit_code_69(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(f"state_dir: {tmp_path}/state\ncameras: {{front: {{source: 0}}}}\n")
    assert main(["status", str(config)]) == 69
    (line,) = capsys.readouterr().err.splitlines()
    assert "systemctl start edge" in line


def test_fix_names_the_unit_of_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_file.daemon, "SERVICE_CONFIGS", tmp_path)
    config = tmp_path / "door.yaml"
    config.write_text(
        f"state_dir: {tmp_path}/state\nmqtt: {{port: 9}}\n"
        f"cameras: {{front: {{source: {tmp_path}/none.mp4}}}}\n"
    )
    assert main(["status", str(config)]) == 69
    assert capsys.readouterr().err.endswith("systemctl start edge@door\n")
    main(["doctor", str(config), "--json"])
    assert '"fix":"systemctl start edge@door"' in capsys.readouterr().out


def test_socket_of_a_killed_daemon_is_replaced_in_a_folder_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as left:  # bound, but not listening
        descriptor = os.open(folder, os.O_PATH)
        left.bind(f"/proc/self/fd/{descriptor}/{status_socket.NAME}")
        os.close(descriptor)
    assert status_socket.ask(folder) is None
    with status_socket.StatusSocket(folder, lambda: b"{}"):
        assert status_socket.ask(folder) == b"{}"
    assert status_socket.ask(folder) is None
    assert list(folder.iterdir()) == []


def test_daemon_runs_without_a_socket_where_none_can_be_created(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / status_socket.NAME).mkdir()
    with status_socket.StatusSocket(tmp_path, lambda: b"{}"):
        assert "status.no_socket" in caplog.text
