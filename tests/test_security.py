"""Access rights at a real broker, secrets in no output, untrusted payloads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tools.cli
from asking import ask
from daemon import Daemon
from edge.cli import main
from edge.config import CommandsConfig
from edge.discovery import discovery_topic
from edge.errors import EXIT_CONFIG
from edge.messages import COMMANDS, Message, Topics
from edge.service.commands import CommandDesk
from edge.service.permission import Permission
from mosquitto import Login, Mosquitto, Subscriber
from publishing import TOPICS, Start, body, wait_acknowledged, wait_connected
from waiting import wait_until

ACL = Path(__file__).parents[1] / "systemd" / "mosquitto-acl.example"
# CI tries some; EDGE_FUZZ=100000 tries as many.
INPUTS = int(os.environ.get("EDGE_FUZZ", "1500"))
SECRET = "s3cret-of-the-broker"


@pytest.fixture
def guarded(tmp_path: Path, mosquitto_program: str) -> Any:
    """A broker with the example's rights; passwords are the users' names."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    broker = Mosquitto(folder, login=Login("gate", SECRET), settings=f"acl_file {ACL}")
    passwords = folder / "passwords"
    with broker:
        for user in ("operator", "viewer", "homeassistant", "garden", "cleaner"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, SECRET], check=True)
        broker.reload()
        yield broker


def password_file(folder: Path) -> str:
    path = folder / "password"
    path.write_text(f"{SECRET}\n")
    return str(path)


def test_board_may_publish_only_its_own_topics(
    guarded: Mosquitto, tmp_path: Path, start: Start
) -> None:
    account = {"username": "gate", "password_file": password_file(tmp_path)}
    with Subscriber(guarded.port, "edge/#", login=Login("viewer", SECRET)) as viewer:
        publisher, spool = start(guarded.port, **account)
        wait_connected(publisher)
        publisher.publish_event(TOPICS.camera("front", "events"), body(1))
        wait_acknowledged(spool)
        publisher.publish(Message("edge/garden/front/state", b"forged", qos=1, retain=True))
        publisher.publish(Message(TOPICS.of("info"), b"{}", qos=1, retain=True))
        viewer.wait_for_topic(TOPICS.camera("front", "events"))
        viewer.wait_for_topic(TOPICS.of("status"))
        viewer.wait_for_topic(TOPICS.of("info"))  # sent after the forged one
        assert not [one for one in viewer.received if one.topic.startswith("edge/garden")]


def test_viewer_may_not_send_commands_and_operator_may(
    guarded: Mosquitto, tmp_path: Path, start: Start
) -> None:
    account = {"username": "gate", "password_file": password_file(tmp_path)}
    publisher, _ = start(guarded.port, **account)
    guarded.wait_for_log("edge/gate/command/+ (QoS 1)")
    with (
        Subscriber(guarded.port, "edge/#", login=Login("viewer", SECRET)) as viewer,
        Subscriber(guarded.port, "edge/#", login=Login("operator", SECRET)) as operator,
    ):
        viewer.publish(TOPICS.command("pause"), b'{"transaction":"viewer"}')
        operator.publish(TOPICS.command("pause"), b'{"transaction":"operator"}')
        wait_until(lambda: publisher.counters().commands == 1)
    command = publisher.take_command()
    assert command is not None
    assert b"operator" in command.payload
    assert publisher.take_command() is None


@pytest.mark.parametrize(("user", "is_gone"), [("operator", False), ("cleaner", True)])
def test_only_the_cleaner_removes_what_a_renamed_board_left(
    guarded: Mosquitto, tmp_path: Path, start: Start, user: str, *, is_gone: bool
) -> None:
    account = {"username": "gate", "password_file": password_file(tmp_path)}
    publisher, _ = start(guarded.port, **account)
    wait_connected(publisher)
    publisher.close()
    left, marker = TOPICS.of("status"), TOPICS.command("marker")
    with (
        Subscriber(guarded.port, left, login=Login(user, SECRET)) as own,
        Subscriber(guarded.port, marker, login=Login("operator", SECRET)) as operator,
    ):
        own.wait_for_topic(left)
        own.publish(left, b"", retain=True)
        with Subscriber(guarded.port, "edge/#", login=Login("viewer", SECRET)) as viewer:
            operator.publish(marker, b"")
            viewer.wait_for_topic(marker)  # after what was retained
            assert any(one.topic == left for one in viewer.received) != is_gone


def test_home_assistant_finds_the_board_and_may_only_pause_and_resume(
    guarded: Mosquitto, tmp_path: Path, start: Start
) -> None:
    account = {"username": "gate", "password_file": password_file(tmp_path)}
    publisher, _ = start(guarded.port, **account)
    guarded.wait_for_log("edge/gate/command/+ (QoS 1)")
    discovery = discovery_topic("homeassistant", "gate")
    with (
        Subscriber(guarded.port, "homeassistant/#", login=Login("homeassistant", SECRET)) as home,
        Subscriber(guarded.port, "edge/#", login=Login("homeassistant", SECRET)) as seen,
    ):
        publisher.publish(Message(discovery, b"{}", qos=1, retain=True))
        home.wait_for_topic(discovery)
        seen.wait_for_topic(TOPICS.of("status"))
        home.publish("homeassistant/status", b"online")
        home.wait_for_topic("homeassistant/status")
        home.publish(TOPICS.command("reload"), b"{}")
        home.publish(TOPICS.command("pause"), b"{}")
        wait_until(lambda: publisher.counters().commands == 1)
    command = publisher.take_command()
    assert command is not None
    assert command.name == "pause"


def test_secrets_show_in_no_log_topic_or_process_list(tmp_path: Path, guarded: Mosquitto) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef-the-command-key\n")
    daemon = Daemon(tmp_path, guarded.port, commands={"key_file": str(key)})
    daemon.config["mqtt"] |= {"username": "gate", "password_file": password_file(tmp_path)}
    daemon.config["log"] = {"level": "debug"}
    daemon.write_config()
    operator = Login("operator", SECRET)
    with daemon, Subscriber(guarded.port, "edge/#", login=operator) as subscriber:
        subscriber.wait_for_topic("edge/gate/front/events", timeout_s=40)
        subscriber.publish("edge/gate/command/pause", b"{}")  # not signed
        answer = subscriber.wait_for_topic("edge/gate/response/pause")[0]
        assert b'"error"' in answer.payload
        assert daemon.process is not None
        process = Path(f"/proc/{daemon.process.pid}")
        seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert daemon.stop() == 0
        published = b"".join(one.topic.encode() + one.payload for one in subscriber.received)
    for secret in (SECRET.encode(), key.read_bytes().strip()):
        assert secret not in seen
        assert secret not in published
        assert secret not in "\n".join(daemon.log).encode()


def billion_laughs(levels: int = 30) -> str:
    lines = ["a0: &a0 [ha, ha]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "bomb",
    [
        billion_laughs(),
        "[" * 100_000,
        "x: !!python/object/apply:os.system [id]",
        "device: " + "x" * 300_000,
        "<<: &m {<<: *m}",
    ],
)
@pytest.mark.timeout(30)
def test_yaml_bomb_is_a_one_line_error_with_exit_code_78(
    tmp_path: Path, bomb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(bomb)
    assert main(["check-config", str(config)]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 1000


@pytest.mark.parametrize("key", ["otlp", "syslog"])
def test_error_about_an_address_does_not_show_its_login(
    tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(f"cameras: {{a: {{source: 0}}}}\nlog: {{{key}: 'ftp://u:{SECRET}@host'}}")
    assert main(["check-config", str(config)]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"log.{key} 'ftp://***@host'" in line


@pytest.mark.parametrize("scheme", ["s3", "https", "ftp", "none"])
def test_registry_with_a_login_is_refused_and_its_login_not_shown(
    capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    address = f"{scheme}://u:{SECRET}@host/models"
    assert tools.cli.main(["registry", "list", "--registry", address]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert SECRET not in line
    assert "no login here" in line


def test_path_traversal_in_commands_is_refused(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    with Daemon(tmp_path, mosquitto.port):
        subscriber.wait_for_topic("edge/gate/info")
        for command in ("pause", "resume", "snapshot"):
            for name in ("../front", "/etc/passwd", "front\0", "..", "a/b", "+", "#", ""):
                answer = ask(subscriber, command, {"camera": name})
                assert (answer.status, answer.error) == (
                    "error",
                    f"no camera {name!r}; known: front",
                )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
nearly_json = json_values.map(lambda value: repr(value).encode())
payloads = st.binary(max_size=200) | nearly_json | st.builds(
    lambda key, value: f'{{"{key}": {value}}}'.encode(),
    st.sampled_from(["camera", "for_s", "labels", "min_score", "transaction", "body", "mac"]),
    st.sampled_from(["1", "-1", "1e999", "null", '"../../etc/passwd"', "[]", "{}", "NaN"]),
)  # fmt: skip


@settings(max_examples=INPUTS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*COMMANDS, "", "../reload", "dance"]), payload=payloads)
@pytest.mark.timeout(3600)
def test_any_command_is_answered_and_only_valid_ones_are_executed(
    tmp_path: Path, name: str, payload: bytes
) -> None:
    acted: list[object] = []
    permission = Permission(CommandsConfig(), Topics("edge", "gate"), tmp_path)
    desk = CommandDesk(
        permission, pause=acted.append, resume=acted.append, set_thresholds=acted.append,
        snapshot=acted.append, reload=acted.append,
    )  # fmt: skip
    answer = desk.answer(name, payload)
    assert (answer.status == "ok") == (len(acted) == 1)
    assert answer.error is None or ("\n" not in answer.error and len(answer.error) < 400)
