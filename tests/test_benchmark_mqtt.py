"""`benchmark-mqtt`: the daemon's publisher and bare paho on a real broker, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import EXIT_OK, EXIT_USAGE, EdgeError
from tools.benchmark import mqtt
from tools.benchmark.mqtt_sender import WAYS, Sender, send
from tools.cli import main


def test_every_sender_is_measured_on_one_broker(
    tmp_path: Path, mosquitto_program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "mqtt.json"
    words = ["--events", "300", "--rate", "100", "--seconds", "1", "--rounds", "1"]
    assert main(["benchmark-mqtt", *words, "--json", str(saved)]) == EXIT_OK
    rows = json.loads(saved.read_text())["rows"]
    assert [row["way"] for row in rows] == list(WAYS)
    for row in rows:
        assert row["events_per_s"] > 10
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    printed = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in printed] == list(WAYS)
    assert printed[0].split()[2] == "1.00"


def test_missing_events_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "TIMEOUT_S", 0.01)
    with pytest.raises(EdgeError, match="0 of 2 events came"):
        mqtt.Receiver().wait(2)


def test_sender_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"paho: .*refused"):
        mqtt._send("paho", 1, mqtt.Receiver(), tmp_path / "full", 1, 0.0)


def test_sender_never_exceeds_its_limit_of_unacknowledged_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tools.benchmark.mqtt_sender.WAITING", 3)
    waiting: list[bytes] = []
    lengths: list[int] = []

    def put(event: bytes) -> None:
        waiting.append(event)
        lengths.append(len(waiting))

    def count() -> int:  # once it is full, each poll acknowledges one
        found = len(waiting)
        if found >= 3 or (found and len(lengths) == 50):
            waiting.pop()
        return found

    send(Sender(put, count), 50, 0.0)
    assert len(lengths) == 50
    assert max(lengths) == 3
    assert not waiting


def test_rate_that_yields_no_event_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark-mqtt", "--rate", "0.1", "--seconds", "1"]) == EXIT_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1
