"""Authorization of commands: allowed names, signatures, replays, clock jumps."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import ask
from daemon import Daemon
from edge.config import CommandsConfig
from edge.errors import EXIT_USAGE, ConfigError, PublishError
from edge.messages import Response, Topics
from edge.messages.signing import mac_of, read_key, sign, verify
from edge.service.commands import CommandDesk
from edge.service.permission import Permission
from fakes import FakeClock
from mosquitto import Mosquitto, Subscriber

TOPICS = Topics("edge", "gate")
PAUSE = TOPICS.command("pause")
KEY = b"0123456789abcdef0123456789abcdef"
NOW_MS = 1_800_000_000_000


class Guarded:
    """A command desk whose handlers record their calls."""

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder
        (folder / "key").write_bytes(KEY + b"\n")
        self.config = CommandsConfig(**config)
        self.clock = FakeClock(NOW_MS / 1000)
        self.done: list[str] = []
        self.start()

    def start(self) -> None:
        def note(command: object) -> None:
            self.done.append(type(command).__name__)

        permission = Permission(self.config, TOPICS, self.folder, wall=self.clock)
        self.desk = CommandDesk(
            permission, pause=note, resume=note, set_thresholds=note, snapshot=note, reload=note
        )

    def ask(self, payload: bytes, name: str = "pause") -> Response:
        return self.desk.answer(name, payload)


@pytest.fixture
def keyed(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, key_file=str(tmp_path / "key"))


def test_command_that_is_not_allowed_changes_nothing(tmp_path: Path) -> None:
    desk = Guarded(tmp_path, allow=("resume",))
    answer = desk.ask(b'{"transaction":"t1"}')
    assert (answer.status, answer.transaction) == ("error", "t1")
    assert "commands.allow" in str(answer.error)
    assert desk.done == []
    assert desk.ask(b"", "resume").status == "ok"
    assert desk.done == ["Resume"]


def test_unknown_command_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    answer = Guarded(tmp_path, allow=("resume",)).ask(b"", "rezume")
    assert "unknown command 'rezume'; known: pause, resume" in str(answer.error)


def test_signed_command_is_executed_once(keyed: Guarded) -> None:
    payload = sign(KEY, PAUSE, NOW_MS, '{"for_s":5,"transaction":"t1"}')
    assert keyed.ask(payload) == Response(status="ok", transaction="t1")
    again = keyed.ask(payload)
    assert "obeyed before" in str(again.error)
    assert again.transaction == "t1"
    assert keyed.done == ["Pause"]


def test_replayed_command_is_refused_after_a_restart_and_a_clock_set_back(keyed: Guarded) -> None:
    payload = sign(KEY, PAUSE, NOW_MS, "")
    keyed.ask(payload)
    for seconds in (0, -20, -86_400):
        keyed.clock.now_s = NOW_MS / 1000 + seconds
        keyed.start()
        assert keyed.ask(payload).status == "error"
    assert keyed.done == ["Pause"]


@pytest.mark.parametrize("away_ms", [-31_000, 31_000, 10**12])
def test_command_signed_at_another_time_is_refused(keyed: Guarded, away_ms: int) -> None:
    answer = keyed.ask(sign(KEY, PAUSE, NOW_MS + away_ms, ""))
    assert "set both clocks" in str(answer.error)
    assert keyed.done == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b'{"for_s":5}',
        b"\xff",
        sign(b"another key, as long as ours is.", PAUSE, NOW_MS, ""),
        sign(KEY, TOPICS.command("resume"), NOW_MS, ""),  # another command
        sign(KEY, "edge/garden/command/pause", NOW_MS, ""),  # another device
        sign(KEY, PAUSE, NOW_MS, "").replace(b'"body":""', b'"body":"{}"'),
        b'{"body":"\\ud800","signed_ms":1,"mac":"' + b"0" * 64 + b'"}',
    ],
)
def test_command_signed_for_another_topic_or_unsigned_changes_nothing(
    keyed: Guarded, payload: bytes
) -> None:
    answer = keyed.ask(payload)
    assert answer.status == "error"
    assert KEY.decode() not in str(answer.error)
    assert keyed.done == []
    assert not (keyed.folder / "last-command").exists()


@given(st.binary(max_size=300))
def test_random_bytes_never_verify(payload: bytes) -> None:
    with pytest.raises(ValueError, match="sign"):
        verify(KEY, PAUSE, payload)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), st.integers(0, NOW_MS))
def test_signed_payload_round_trips(body: str, signed_ms: int) -> None:
    signed = verify(KEY, PAUSE, sign(KEY, PAUSE, signed_ms, body))
    assert (signed.body, signed.signed_ms) == (body, signed_ms)


def test_the_code_is_plain_hmac_sha256() -> None:
    # openssl: printf 'edge/gate/command/pause\n1\n{}' | openssl dgst -sha256 -hmac 0123456789abcdef
    assert mac_of(b"0123456789abcdef", PAUSE, 1, "{}") == (
        "f0967a090a3f5b906949cf237cc13902dbc1c9b046cf8e486e81aa6b9824d963"
    )


def test_command_is_recorded_on_disk_before_it_is_executed(
    keyed: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, then its folder, then the act: a power cut in between executes nothing twice."""
    order: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    keyed.done = order
    assert keyed.ask(sign(KEY, PAUSE, NOW_MS, "")).status == "ok"
    assert order == [".last-command.part", keyed.folder.name, "Pause"]


def test_command_that_cannot_be_recorded_is_not_executed(keyed: Guarded) -> None:
    (keyed.folder / ".last-command.part").mkdir()
    error = str(keyed.ask(sign(KEY, PAUSE, NOW_MS, "")).error)
    assert error.endswith("last-command: Is a directory; let the daemon write there")
    assert keyed.done == []


@pytest.mark.parametrize("content", ["", "x", "-5", "9" * 30])
def test_damaged_record_is_one_clear_error(keyed: Guarded, content: str) -> None:
    (keyed.folder / "last-command").write_text(content)
    with pytest.raises(PublishError, match=r"last-command: damaged; remove it"):
        keyed.start()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "fewer than 16"),
        (b"short" * 3 + b"\n" + KEY, "fewer than 16"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_invalid_key_file_is_one_clear_error(tmp_path: Path, content: bytes | None, reason: str):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    message = rf"commands\.key_file .*{reason}.*openssl rand -hex 32"
    with pytest.raises(ConfigError, match=message) as raised:
        read_key(path)
    assert "short" not in str(raised.value)


def test_key_is_the_first_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(" " + "k" * 16 + " \nof the garden gate\n")
    assert read_key(path) == b"k" * 16


def test_sign_command_prints_what_a_device_accepts(
    keyed: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge.cli import main

    key_file = str(keyed.folder / "key")
    assert main(["sign-command", "--key-file", key_file, PAUSE, '{"for_s": 5}']) == 0
    printed = capsys.readouterr().out.encode()
    keyed.clock.now_s = json.loads(printed)["signed_ms"] / 1000 + 1
    assert keyed.ask(printed.strip()).status == "ok"
    assert keyed.done == ["Pause"]


@pytest.mark.parametrize("words", [[PAUSE, os.fsdecode(b"\xff")], [os.fsdecode(b"edge/\xff")]])
def test_payload_that_is_not_utf8_is_not_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    from edge.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["sign-command", "--key-file", str(tmp_path / "key"), *words])
    assert ended.value.code == EXIT_USAGE
    assert "is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("payload", ["{for_s: 60}", "{", "60s"])
def test_payload_that_is_not_json_is_not_signed(
    keyed: Guarded, capsys: pytest.CaptureFixture[str], payload: str
) -> None:
    from edge.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["sign-command", "--key-file", str(keyed.folder / "key"), PAUSE, payload])
    assert ended.value.code == EXIT_USAGE
    assert f"argument JSON: {payload!r}: " in capsys.readouterr().err


@pytest.mark.parametrize("topic", ["edge/gate/pause", "edge/gate/command/+", "gate/command/pause"])
def test_topic_on_which_no_device_listens_is_not_signed(
    keyed: Guarded, capsys: pytest.CaptureFixture[str], topic: str
) -> None:
    from edge.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["sign-command", "--key-file", str(keyed.folder / "key"), topic])
    assert ended.value.code == EXIT_USAGE
    assert "is not <prefix>/<device>/command/<name>" in capsys.readouterr().err


def test_daemon_with_a_key_executes_signed_commands_and_offers_no_buttons(
    tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 32)
    with Daemon(tmp_path, mosquitto.port, commands={"key_file": str(key)}):
        (discovery,) = subscriber.wait_for_topic("homeassistant/device/gate/config")
        assert b"command_topic" not in discovery.payload
        assert ask(subscriber, "pause", b"{}").status == "error"
        signed = sign(read_key(key), PAUSE, time.time_ns() // 1_000_000, "{}")
        assert ask(subscriber, "pause", signed).status == "ok"
        assert ask(subscriber, "pause", signed).status == "error"
