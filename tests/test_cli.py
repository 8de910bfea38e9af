"""The commands as a user runs them: exit codes, one line on standard error, no traceback."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import edge.cli
import tools.cli
from edge.cli import COMMANDS
from edge.errors import (
    EXIT_CONFIG,
    EXIT_NO_INPUT,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
)
from models import change_manifest, color_folder, detect_folder, refused_folder

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 60
# Output of the TFLite runtime itself on standard error.
CHATTER = ("INFO: ", "WARNING: ")


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one error line."""
        lines = [
            line
            for line in self.err.splitlines()
            if not line.startswith((*CHATTER, "INFO edge.", "WARNING edge."))
        ]
        assert len(lines) == 1, self.err
        return lines[0]


def run(*words: object, module: str = "edge") -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs `edge` in this process: the same, but quicker."""

    def call(*words: object, main: Callable[[list[str]], int] = edge.cli.main) -> Outcome:
        try:
            code = main([str(word) for word in words])
        except SystemExit as usage:
            code = int(str(usage.code))
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config whose models are tiny and whose source is missing."""
    detect_folder(tmp_path / "models")
    color_folder(tmp_path / "models")
    path = tmp_path / "edge.yaml"
    path.write_text(
        f"cameras: {{front: {{source: {tmp_path}/none.mp4}}}}\n"
        f"state_dir: {tmp_path}/state\nmodels_dir: {tmp_path}/models\n"
        "detector: {model: tiny-detect}\ncolor: {model: tiny-color}\n"
        "mqtt: {host: 127.0.0.1, port: 1}\n"
    )
    return path


def replaced(config: Path, old: str, new: str) -> Path:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    return config


def test_version_and_help():
    assert run("--version").out == f"edge {edge.__version__}\n"
    described = run("--help")
    assert described.code == EXIT_OK
    for command in COMMANDS:
        assert command in described.out
    assert "78 wrong config or model" in described.out


@pytest.mark.parametrize(
    "words",
    [(), ("dance",), ("infer",), ("run",)]
    + [("infer", "x.png", "--min-score", score) for score in ("0", "2")],
    ids=" ".join,
)
def test_usage_error_exits_with_2(call: Callable[..., Outcome], words: tuple[str, ...]):
    outcome = call(*words)
    assert outcome.code == EXIT_USAGE
    assert "usage: edge" in outcome.err


def test_mistyped_command_is_told_all_commands(call: Callable[..., Outcome]):
    outcome = call("service", "status")
    assert outcome.code == EXIT_USAGE
    assert all(f"'{command}'" in outcome.err for command in COMMANDS)


def test_invalid_score_is_a_usage_error():
    outcome = run("infer", "x.png", "--min-score", "high")
    assert outcome.code == EXIT_USAGE
    assert "'high' is not a score" in outcome.err


def test_check_config_of_a_valid_file_summarizes_it(call: Callable[..., Outcome], config: Path):
    (config.parent / "none.mp4").touch()
    outcome = call("check-config", config)
    assert outcome.code == EXIT_OK
    for part in ("ok", "front", "127.0.0.1:1", "200 ms", "tiny-detect", "tiny-color"):
        assert part in outcome.out


def test_check_config_creates_no_log_file(call: Callable[..., Outcome], config: Path):
    (config.parent / "none.mp4").touch()
    kept = config.parent / "kept.log"
    kept.write_text("a line\n")
    replaced(config, "port: 1}", f"port: 1}}\nlog: {{file: {config.parent}/logs/of/edge.log}}")
    assert call("check-config", config).code == EXIT_OK
    replaced(config, "logs/of/edge.log", kept.name)
    assert call("check-config", config).code == EXIT_OK
    assert not (config.parent / "logs").exists()
    assert kept.read_text() == "a line\n"


def test_check_config_refuses_a_source_that_the_daemon_cannot_open(
    call: Callable[..., Outcome], config: Path
):
    outcome = call("check-config", config)
    assert outcome.code == EXIT_NO_INPUT
    assert "none.mp4: no such file" in outcome.complaint
    replaced(config, f"{config.parent}/none.mp4", '"v4l2src ! videoconvert"')
    assert call("check-config", config).code == EXIT_UNAVAILABLE


def test_unknown_key_names_line_and_known_keys(config: Path):
    outcome = run("check-config", replaced(config, "mqtt: {host:", "mqtt: {hots:"))
    assert outcome.code == EXIT_CONFIG
    assert f"edge: {config}:6: unknown key 'mqtt.hots'; known here: host, port" in outcome.complaint


# Text to replace in the config -> error text of both the check and the daemon.
WRONG = {
    ("model: tiny-detect", "model: nothing"): "'nothing' is not installed; installed: ",
    ("model: tiny-detect", "model: tiny-color"): "tiny-color",
    ("model: tiny-detect", "model: tiny-detect, labels: {dog: {}}"): "no such class",
    ("models_dir:", "models_dir: /nowhere #"): "/nowhere",
    ("cameras: {", "cameras: {back: {source: 'foo://x'}, "): "foo",
    ("port: 1}", "port: 0}"): "mqtt.port",
    ("port: 1}", "username: a, password_file: /nowhere}"): "mqtt.password_file /nowhere",
    ("port: 1}", "ca_file: /nowhere}"): "mqtt.ca_file /nowhere",
    ("port: 1}", 'port: 1}\nlog: {syslog: "http://x"}'): "log.syslog 'http://x'",
    ("port: 1}", "port: 1}\nlog: {otlp: x}"): "log.otlp 'x'",
    ("port: 1}", "port: 1}\nlog: {file: /proc/nowhere/x}"): "log.file /proc/nowhere/x",
}


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change[1])
def test_check_config_refuses_what_the_daemon_refuses(
    call: Callable[..., Outcome], config: Path, change: tuple[str, str]
):
    replaced(config, *change)
    for words in (("check-config", config), ("run", "--config", config)):
        outcome = call(*words)
        assert outcome.code == EXIT_CONFIG
        assert WRONG[change] in outcome.complaint


def test_damaged_models_are_refused_by_the_check(call: Callable[..., Outcome], config: Path):
    folder = config.parent / "models" / "tiny-color"
    content = (folder / "model.tflite").read_bytes()
    (folder / "model.tflite").write_bytes(content[:-100])
    outcome = call("check-config", config)
    assert outcome.code == EXIT_CONFIG
    assert "truncated or replaced" in outcome.complaint


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        (("mqtt: {host:", "mqtt: {hots:"), EXIT_CONFIG, "unknown key"),
        (("model: tiny-color", "model: nothing"), EXIT_CONFIG, "not installed"),
        (("/state\n", "/edge.yaml\n"), EXIT_UNAVAILABLE, "state_dir"),
        (("budget", "budget"), EXIT_NO_INPUT, "none.mp4: no such file"),
    ],
    ids=["config", "model", "spool", "source"],
)
def test_the_daemon_exits_with_the_documented_code(
    config: Path, change: tuple[str, str], code: int, part: str
):
    if change[0] != change[1]:
        replaced(config, *change)
    outcome = run("run", "--config", config)
    assert outcome.code == code
    assert part in outcome.complaint


def test_missing_config_is_named(tmp_path: Path):
    outcome = run("run", "--config", tmp_path / "none.yaml")
    assert outcome.code == EXIT_CONFIG
    assert outcome.complaint == (
        f"edge: {tmp_path}/none.yaml: No such file or directory; name a readable config file"
    )


def test_config_schema_is_json_that_names_every_section():
    schema = json.loads(run("config-schema").out)
    assert {"cameras", "mqtt", "detector"} <= set(schema["$defs"]["Config"]["properties"])


def test_models_are_listed_with_hash_and_certificate(call: Callable[..., Outcome]):
    outcome = call("models")
    assert outcome.code == EXIT_OK
    assert outcome.out.count("integer-only (") == len(list(ROOT.glob("models/*/manifest.json")))
    assert "yolox-nano-352" in outcome.out


def test_broken_models_are_listed_and_exit_with_78(call: Callable[..., Outcome], tmp_path: Path):
    refused_folder(tmp_path, "float.tflite")
    change_manifest(color_folder(tmp_path), sha256="0" * 64)
    detect_folder(tmp_path)
    outcome = call("models", "--models-dir", tmp_path)
    assert outcome.code == EXIT_CONFIG
    lines = {line.split()[0]: line for line in outcome.out.splitlines()}
    assert "BROKEN: " in lines["float"]
    assert "float32" in lines["float"]
    assert "sha256" in lines["tiny-color"]
    assert "integer-only (" in lines["tiny-detect"]


@pytest.mark.parametrize(
    "words",
    [("models", "--models-dir", "n" * 300), ("infer", "a.png", "--model", "./" + "n" * 300)],
    ids=["models-dir", "model"],
)
def test_inaccessible_models_exit_with_78(call: Callable[..., Outcome], words: tuple[str, ...]):
    outcome = call(*words)
    assert outcome.code == EXIT_CONFIG
    assert "File name too long" in outcome.complaint


def test_infer_without_input_exits_with_66(tmp_path: Path):
    outcome = run("infer", tmp_path / "none.png")
    assert outcome.code == EXIT_NO_INPUT
    assert "none.png: no such file" in outcome.complaint
    assert json.loads(outcome.out) == []


def test_infer_with_an_unknown_model_exits_with_78(call: Callable[..., Outcome], tmp_path: Path):
    outcome = call("infer", tmp_path, "--model", "none")
    assert outcome.code == EXIT_CONFIG
    assert "'none' is not installed" in outcome.complaint


def test_tools_list_their_commands_and_refuse_others():
    described = run("--help", module="tools")
    assert described.code == EXIT_OK
    for words in tools.cli.COMMANDS:
        assert " ".join(words) in described.out
    assert run("dance", module="tools").code == EXIT_USAGE


@pytest.mark.parametrize("words", [("train",), ("train", "dog"), ()])
def test_unknown_tools_command_is_a_usage_error(
    call: Callable[..., Outcome], words: tuple[str, ...]
):
    outcome = call(*words, main=tools.cli.main)
    assert outcome.code == EXIT_USAGE
    assert "edge-tools: error:" in outcome.err


@pytest.mark.parametrize("words", tools.cli.COMMANDS, ids=" ".join)
def test_every_tool_has_a_help_text(call: Callable[..., Outcome], words: tuple[str, ...]):
    outcome = call(*words, "--help", main=tools.cli.main)
    # On a board without the workstation's libraries the error names what to install.
    if outcome.code == EXIT_CONFIG:
        assert "pip install 'edge-camera[tools]'" in outcome.complaint
        return
    assert outcome.code == EXIT_OK
    assert f"usage: edge-tools {' '.join(words)}" in outcome.out
    examples = outcome.out.partition("\nexample")[2]
    assert examples
    assert not re.search(r"\S {2,}--", examples)  # a line that goes on after a lost line break


@pytest.mark.parametrize("action", ["pull", "rollback"])
def test_model_actions_have_examples(call: Callable[..., Outcome], action: str):
    assert f"examples:\n  edge models {action} color-64" in call("models", action, "--help").out


def test_error_of_a_tool_is_one_line():
    outcome = run("benchmark", "--models", "none", module="tools")
    assert outcome.code == EXIT_CONFIG
    assert outcome.complaint.startswith("edge-tools: model 'none' is not installed")


@pytest.mark.parametrize("words", tools.cli.COMMANDS, ids=" ".join)
def test_every_option_of_the_tools_has_a_help_text(words: tuple[str, ...]):
    try:
        module = importlib.import_module(tools.cli.COMMANDS[words][0])
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    silent = [action.dest for action in parser._actions if not action.help]
    assert silent == []
