"""Expansion of paths given by the user."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge.cli
import tools.cli
from edge import config_file, lookup
from edge.config import Config
from edge.errors import EXIT_CONFIG, EXIT_NO_INPUT, ConfigError, InputError
from models import color_folder, detect_folder

NOBODY = "~nosuchuser/x"


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_home_folders_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/gate")
    assert lookup.expanded("~/x", InputError) == Path("/home/gate/x")
    assert lookup.expanded("/a/~/x", InputError) == Path("/a/~/x")
    with pytest.raises(InputError, match="nosuchuser/x: no home folder of that user"):
        lookup.expanded(NOBODY, InputError)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"source: 0": f"source: {NOBODY}"}, EXIT_NO_INPUT),
        ({"models_dir: ": f"models_dir: {NOBODY} #"}, EXIT_CONFIG),
        ({"tiny-detect": NOBODY}, EXIT_CONFIG),
    ],
    ids=["source", "models_dir", "model"],
)
def test_home_of_an_unknown_user_in_a_config_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], code: int
) -> None:
    detect_folder(tmp_path / "models")
    color_folder(tmp_path / "models")
    text = (
        f"cameras: {{front: {{source: 0}}}}\nstate_dir: {tmp_path}/state\n"
        f"models_dir: {tmp_path}/models\ndetector: {{model: tiny-detect}}\n"
        "color: {model: tiny-color}\nmqtt: {host: 127.0.0.1, port: 1}\n"
    )
    for old, new in changes.items():
        text = text.replace(old, new)
    config = tmp_path / "edge.yaml"
    config.write_text(text)
    assert edge.cli.main(["run", "--config", str(config)]) == code
    assert f"{NOBODY}: no home folder of that user" in last_line(capsys)


def test_every_path_in_a_config_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/gate")
    config = config_file.parse(
        "cameras: {front: {source: 0}}\nstate_dir: ~/state\nmodels_dir: ~/models\n"
        "mqtt: {username: gate, password_file: ~/p, ca_file: ~/a, cert_file: ~/c, key_file: ~/k}\n"
        "commands: {key_file: ~/key}\nlog: {file: ~/edge.log}\n",
        "edge.yaml",
    )
    assert config.state_dir == "/home/gate/state"
    assert config.models_dir == "/home/gate/models"
    mqtt = config.mqtt
    files = (mqtt.password_file, mqtt.ca_file, mqtt.cert_file, mqtt.key_file)
    assert files == tuple(f"/home/gate/{name}" for name in "pack")
    assert config.commands.key_file == "/home/gate/key"
    assert config.log.file == "/home/gate/edge.log"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("state_dir: {}", "edge.yaml:2: state_dir"),
        ("log: {{file: {}}}", "edge.yaml:2: log.file"),
        ("commands:\n  key_file: {}", "edge.yaml:3: commands.key_file"),
    ],
)
def test_home_of_an_unknown_user_is_named_with_its_line(text: str, where: str) -> None:
    cameras = "cameras: {front: {source: 0}}\n"
    with pytest.raises(ConfigError, match=f"^{where}: {NOBODY}: no home folder of that user"):
        config_file.parse(cameras + text.format(NOBODY), "edge.yaml")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["models", "--models-dir", NOBODY], EXIT_CONFIG),
        (["infer", "a.png", "--model", NOBODY], EXIT_CONFIG),
        (["infer", f"{NOBODY}.mp4"], EXIT_NO_INPUT),
    ],
    ids=["models_dir", "model", "input"],
)
def test_home_of_an_unknown_user_in_a_command_is_a_one_line_error(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    assert edge.cli.main(words) == code
    assert "no home folder of that user" in last_line(capsys)


@pytest.mark.parametrize(
    "words",
    [["registry", "list", "--registry", NOBODY], ["benchmark", "--models", NOBODY]],
    ids=["registry", "model"],
)
def test_home_of_an_unknown_user_in_a_tool_is_a_one_line_error(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert tools.cli.main(words) == EXIT_CONFIG
    assert last_line(capsys).startswith(f"edge-tools: {NOBODY}: no home folder of that user")


def test_state_of_a_user_without_home_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> Path:
        raise RuntimeError

    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", fail)
    with pytest.raises(ConfigError, match=r"~/\.local/state: no home folder"):
        config_file.state_dir(Config(cameras={}))
