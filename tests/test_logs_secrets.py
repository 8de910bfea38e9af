"""No secret reaches a log, whatever its format and wherever the secret stands."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from daemon import Daemon
from edge import logs
from edge.errors import EXIT_OK
from edge.logs import facts
from mosquitto import Login, Mosquitto, Received, Subscriber


def record(template: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("edge.x", logging.INFO, "x.py", 1, template, args, None)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("camera.lost source=%s", "rtsp://admin:hunter22@10.0.0.1/s"),
        ("camera.lost source=%s", "rtsp://admin:p@ss:hunter22@10.0.0.1/s"),
        ("mqtt.refused password=%s", "hunter22"),
        ("mqtt.refused reason=%s", "token: hunter22"),
        ("mqtt.refused reason=%s", '{"path":"/token","token":"hunter22"}'),
        ("said=%s", "the secret is s3cr3t-hunter22"),
    ],
)
def test_log_formats_contain_no_secrets(template: str, value: str) -> None:
    logs.hide("s3cr3t-hunter22")
    one = record(template, value)
    for formatter in (
        facts.JsonFormatter("gate"),
        facts.TextFormatter(),
        facts.SyslogFormatter("gate", end=""),
    ):
        assert "hunter22" not in formatter.format(one)
        assert facts.HIDDEN in formatter.format(one)


@pytest.mark.parametrize("name", ["/run/mqtt-password", "'/etc/edge/secret'", "keys/token"])
def test_reason_after_the_name_of_a_file_is_not_hidden(name: str) -> None:
    text = f"mqtt.password_file {name}: No such file or directory; name a readable file"
    assert facts.redacted(text) == text


def test_secret_that_begins_like_another_leaves_no_rest() -> None:
    secrets = ["hunter22" + "0123456789abcdef"[:length] for length in range(16)]
    for secret in secrets:
        logs.hide(secret)
    assert [facts.redacted(secret) for secret in secrets] == ["***"] * 16


def test_traceback_contains_no_secret() -> None:
    logs.hide("hunter22")
    try:
        int("hunter22")
    except ValueError:
        one = record("failed")
        one.exc_info = sys.exc_info()
    found = facts.facts_of(one)
    assert "ValueError" in found["exception"]
    assert "hunter22" not in json.dumps(found)


def _event(received: Received) -> str | None:
    """The event of a log record; None for other messages."""
    is_log = received.topic == "edge/gate/log"
    return json.loads(received.payload).get("event") if is_log else None


def test_daemon_publishes_its_log_without_the_password(
    mosquitto_program: str, tmp_path: Path
) -> None:
    login = Login("gate", "hunter22-is-secret")
    (tmp_path / "broker").mkdir()
    (tmp_path / "password").write_text(login.password + "\n")
    with (
        Mosquitto(tmp_path / "broker", login=login) as broker,
        Subscriber(broker.port, login=login) as subscriber,
    ):
        daemon = Daemon(
            tmp_path,
            broker.port,
            log={"mqtt_level": "info", "format": "json", "file": str(tmp_path / "edge.log")},
        )
        daemon.config["mqtt"] |= {
            "username": login.username,
            "password_file": str(tmp_path / "password"),
        }
        daemon.config["cameras"]["front"]["source"] = f"rtsp://u:{login.password}@127.0.0.1:9/x"
        daemon.write_config()
        with daemon:
            broker.wait_for_log("edge/gate/command/+ (QoS 1)", timeout_s=30)
            subscriber.publish("edge/gate/command/pause", b"")
            subscriber.wait_for(lambda all_: any(_event(one) == "command.done" for one in all_), 30)
            assert daemon.stop() == EXIT_OK
        everything = [*daemon.log, (tmp_path / "edge.log").read_text()]
        everything += [one.payload.decode(errors="replace") for one in subscriber.received]
        assert not any(login.password in text for text in everything)
        assert all(json.loads(line)["device"] == "gate" for line in daemon.log)
