"""Every metric has the value of the `stats` field that it names; its server and file hold up."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from edge.config import MetricsConfig
from edge.errors import ConfigError, WebError
from edge.messages import CameraStats, Info, ModelInfo, MqttStats, SpoolStats, Stats
from edge.metrics import Collector, Metrics, server
from mosquitto import LOOPBACK, free_port
from waiting import wait_until

MODEL = ModelInfo(
    name="tiny", version="0.3.2", pulled="0.4.0", sha256="cafe", integer_only=True, runtime="r"
)
INFO = Info(
    device="gate", version="1.2", boot_id="b", models={"color": MODEL}, cameras=("front",),
    labels=(), budget_ms=200, commands=(),
)  # fmt: skip
CAMERA = CameraStats(
    state="live", frames=21, detected=25, skipped={"stale": 26, "budget": 27}, bad_frames=22,
    reconnects=23, hung=24, paused=True,
)  # fmt: skip
MQTT = MqttStats(
    state="connected: MQTT 5", connects=31, refusals=32, sent=33, acknowledged=34, rejected=35,
    dropped=36, commands=37,
)  # fmt: skip
STATS = Stats(
    boot_id="b", uptime_s=1, frames_per_s=2.5, detected=3, skipped={"stale": 4, "budget": 5},
    detected_faster=2,
    late=6, colors_shed=7, events=8, latency_ms={"p50": 20, "p95": 30},
    stages_ms={"detector": {"p99": 40}}, degraded="", cameras={"front": CAMERA},
    spool=SpoolStats(waiting=41, lost=42, used_bytes=43, written_bytes=44, failure=""),
    temperature_c=51.5, cpu_governor="ondemand", cpu_hz=1_500_000_000, load_1min=0.5, rss_bytes=52,
    mqtt=MQTT,
)  # fmt: skip
EXPECTED = {
    'edge_info{device="gate",version="1.2"}': 1,
    'edge_model_info{device="gate",name="tiny",pulled="0.4.0",role="color",sha256="cafe",version="0.3.2"}': 1,  # noqa: E501
    'edge_uptime_seconds{device="gate"}': 1,
    'edge_frames_per_second{device="gate"}': 2.5,
    'edge_temperature_celsius{device="gate"}': 51.5,
    'edge_cpu_hertz{device="gate"}': 1.5e9,
    'edge_load1{device="gate"}': 0.5,
    'edge_resident_memory_bytes{device="gate"}': 52,
    'edge_frames_detected_total{device="gate"}': 3,
    'edge_frames_detected_faster_total{device="gate"}': 2,
    'edge_frames_late_total{device="gate"}': 6,
    'edge_colors_shed_total{device="gate"}': 7,
    'edge_events_total{device="gate"}': 8,
    'edge_frames_skipped_total{cause="stale",device="gate"}': 4,
    'edge_frames_skipped_total{cause="budget",device="gate"}': 5,
    'edge_latency_seconds{device="gate",quantile="0.5"}': 0.02,
    'edge_latency_seconds{device="gate",quantile="0.95"}': 0.03,
    'edge_stage_seconds{device="gate",quantile="0.99",stage="detector"}': 0.04,
    'edge_camera_live{camera="front",device="gate"}': 1,
    'edge_camera_paused{camera="front",device="gate"}': 1,
    'edge_camera_frames_total{camera="front",device="gate"}': 21,
    'edge_camera_detected_total{camera="front",device="gate"}': 25,
    'edge_camera_skipped_total{camera="front",cause="stale",device="gate"}': 26,
    'edge_camera_skipped_total{camera="front",cause="budget",device="gate"}': 27,
    'edge_camera_bad_frames_total{camera="front",device="gate"}': 22,
    'edge_camera_reconnects_total{camera="front",device="gate"}': 23,
    'edge_camera_hung_total{camera="front",device="gate"}': 24,
    'edge_broker_connected{device="gate"}': 1,
    'edge_mqtt_connects_total{device="gate"}': 31,
    'edge_mqtt_refusals_total{device="gate"}': 32,
    'edge_mqtt_sent_total{device="gate"}': 33,
    'edge_mqtt_acknowledged_total{device="gate"}': 34,
    'edge_mqtt_rejected_total{device="gate"}': 35,
    'edge_mqtt_dropped_total{device="gate"}': 36,
    'edge_mqtt_commands_total{device="gate"}': 37,
    'edge_spool_waiting{device="gate"}': 41,
    'edge_spool_used_bytes{device="gate"}': 43,
    'edge_spool_writable{device="gate"}': 1,
    'edge_spool_lost_total{device="gate"}': 42,
    'edge_spool_written_bytes_total{device="gate"}': 44,
}


def scraped(info: Info | None, stats: Stats | None) -> dict[str, float]:
    """What a scrape gives, by name and labels as they are written."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(lambda: (info, stats)))
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{sample.labels[name]}"' for name in sorted(sample.labels))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_every_metric_has_the_value_of_its_field() -> None:
    found = scraped(INFO, STATS)
    assert found == {name: pytest.approx(value) for name, value in EXPECTED.items()}


def test_faults_are_0_and_unknown_values_are_omitted() -> None:
    camera = CameraStats(state="lost", frames=0, bad_frames=0, reconnects=0, hung=0)
    spool = SpoolStats(waiting=0, lost=0, used_bytes=0, written_bytes=0, failure="disk full")
    changes = {
        "cameras": {"front": camera}, "spool": spool, "temperature_c": None,
        "mqtt": msgspec.structs.replace(MQTT, state="lost: no route"),
    }  # fmt: skip
    known = {name: getattr(STATS, name) for name in STATS.__struct_fields__}
    found = scraped(None, Stats(**(known | changes)))
    for name in ("camera_live", "camera_paused"):
        assert found[f'edge_{name}{{camera="front"}}'] == 0
    assert found["edge_broker_connected"] == found["edge_spool_writable"] == 0
    assert "edge_temperature_celsius" not in found
    assert scraped(None, None) == {}


@pytest.mark.parametrize(("age_s", "pause_s"), [(0, 1), (4.5, 0.5), (9, 0)])
def test_writer_sleeps_until_it_is_due(
    monkeypatch: pytest.MonkeyPatch, age_s: float, pause_s: float
) -> None:
    writer = Metrics(MetricsConfig(), lambda: (None, None), lambda: 5)
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: 1000.0)
        assert writer._pause_s(1000.0 - age_s) == pause_s


def test_port_is_free_again_once_metrics_are_left() -> None:
    config = MetricsConfig(port=free_port())
    for _ in range(2):
        with Metrics(config, lambda: (INFO, None), lambda: 5):
            url = f"http://{LOOPBACK}:{config.port}/metrics"
            assert b"edge_info" in urllib.request.urlopen(url, timeout=10).read()


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    config = MetricsConfig(host="2001:db8::1", port=9101)  # for documentation: no machine has it
    metrics = Metrics(config, lambda: (INFO, None), lambda: 5)
    with pytest.raises(WebError, match=r"metrics: \[2001:db8::1\]:9101: "), metrics:
        pass


@pytest.mark.parametrize("wish", [{"port": 1}, {"textfile": "/tmp/edge.prom"}])
def test_library_is_asked_for_only_where_metrics_are(
    monkeypatch: pytest.MonkeyPatch, wish: dict[str, int | str]
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with Metrics(MetricsConfig(), lambda: (None, None), float):
        pass
    metrics = Metrics(MetricsConfig(**wish), lambda: (None, None), float)
    with (
        pytest.raises(ConfigError, match=r"pip install 'edge-camera\[metrics\]'") as raised,
        metrics,
    ):
        pass
    assert f"{sys.executable} -m pip install" in str(raised.value)  # not the system's pip


def test_file_is_written_only_when_it_is_due_and_goes_with_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def look_at_once(_metrics: Metrics, written_s: float) -> float:
        looked.append(written_s)
        return 0.001

    monkeypatch.setattr(Metrics, "_pause_s", look_at_once)
    path, interval_s = tmp_path / "edge.prom", [3600.0]
    with Metrics(MetricsConfig(textfile=str(path)), lambda: (INFO, None), lambda: interval_s[0]):
        wait_until(lambda: len(looked) > 20)
        assert not path.exists()
        interval_s[0] = 0.05
        wait_until(path.exists)
        assert "edge_info" in path.read_text()
    assert not path.exists()


def test_taken_metrics_port_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        config = MetricsConfig(port=taken.getsockname()[1])
        with pytest.raises(
            WebError, match=r"0\.1:\d+: Address already in use; choose .*metrics\.port"
        ):
            Metrics(config, lambda: (None, None), lambda: 1).__enter__()
    config = MetricsConfig(port=9, host="no..host")
    with pytest.raises(WebError, match="no such host"):
        Metrics(config, lambda: (None, None), lambda: 1).__enter__()


def test_silent_or_reset_metrics_clients_occupy_no_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patient_s = server.REQUEST_S
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    port, before = free_port(), threading.active_count()
    with Metrics(MetricsConfig(port=port), lambda: (None, STATS), lambda: 1):
        held = [socket.create_connection((LOOPBACK, port), timeout=20) for _ in range(5)]
        reset = held.pop()
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        for one in held:
            with one:
                assert one.recv(1) == b""
        wait_until(lambda: threading.active_count() <= before + 1)
        monkeypatch.setattr(server, "REQUEST_S", patient_s)
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"edge_spool_writable 1.0" in answer.read()
    assert capsys.readouterr().err == ""


def test_slow_metrics_clients_occupy_a_bounded_number_of_threads_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient_s = server.REQUEST_S
    monkeypatch.setattr(server, "REQUEST_S", 1.0)
    port, before = free_port(), threading.active_count()
    with Metrics(MetricsConfig(port=port), lambda: (None, STATS), lambda: 1):
        held = [
            socket.create_connection((LOOPBACK, port), timeout=20)
            for _ in range(server.MAX_CLIENTS + 5)
        ]
        threads = []
        while sum(map(is_sent, held)):
            threads.append(threading.active_count() - before)
            time.sleep(0.01)
        for one in held:
            one.close()
        assert max(threads) <= 1 + server.MAX_CLIENTS
        monkeypatch.setattr(server, "REQUEST_S", patient_s)
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"edge_spool_writable 1.0" in answer.read()


def test_metrics_are_served_again_after_no_thread_could_be_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    with Metrics(MetricsConfig(port=port), lambda: (None, STATS), lambda: 1):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fail)
            for _ in range(server.MAX_CLIENTS):
                with pytest.raises(OSError, match=r"closed|reset"):
                    urllib.request.urlopen(url, timeout=10)
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"edge_spool_writable 1.0" in answer.read()
    assert capsys.readouterr().err == ""


def is_sent(client: socket.socket) -> bool:
    """Send one byte; False when the server has closed the connection."""
    try:
        client.sendall(b"G")
    except OSError:
        return False
    return True


def test_each_time_a_textfile_cannot_be_written_is_reported_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "missing" / "edge.prom"
    tries: list[Stats] = []

    def known() -> tuple[None, Stats]:
        tries.append(STATS)
        return None, tries[-1]

    with Metrics(MetricsConfig(textfile=str(path)), known, lambda: 0.01):
        for times in (1, 2):
            tries.clear()
            wait_until(lambda: len(tries) > 5)
            assert caplog.text.count("metrics.not_written") == times
            path.parent.mkdir()
            wait_until(path.exists)
            assert "edge_spool_writable 1.0" in path.read_text()
            if times == 1:
                path.parent.rename(tmp_path / "former")
    assert not path.exists()  # old numbers would pass for new ones


def test_textfile_is_readable_by_other_users_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "edge.prom"
    before = os.umask(0o077)  # as in the unit
    try:
        with Metrics(MetricsConfig(textfile=str(path)), lambda: (None, STATS), lambda: 0.01):
            wait_until(path.exists)
            assert path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    assert not list(tmp_path.iterdir())


def test_textfile_with_too_long_a_name_does_not_break_the_shutdown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = MetricsConfig(textfile=str(tmp_path / ("n" * 300)))
    with Metrics(config, lambda: (None, STATS), lambda: 0.01):
        wait_until(lambda: "metrics.not_written" in caplog.text)


def test_disabled_metrics_import_and_start_nothing() -> None:
    code = (
        "import sys; from edge.metrics import Metrics; from edge.config import MetricsConfig\n"
        "with Metrics(MetricsConfig(), lambda: (None, None), lambda: 1): pass\n"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
