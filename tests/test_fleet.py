"""What the owner of many boards must be able to see, and what a board must not need a hand for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cryptography")


from boards import Board, config_of
from daemon import Daemon
from edge import cli, config_file, model_update
from edge.cli.status import lines_of
from edge.errors import EXIT_OK
from edge.messages import Health, Info, Report
from edge.model_update import MAX_STARTS
from edge.pipeline import Pipeline
from edge.service import Service
from edge.service.parts import load_interpreters, model_infos
from models import COLOR
from mosquitto import Mosquitto, Subscriber
from registered import golden_folder
from tools.registry import versions


def test_two_versions_of_one_network_are_told_apart(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when only the manifest changed, or an earlier folder was pushed to go back."""
    folder = golden_folder(tmp_path / "source", "1.0.0")
    config = config_file.load(config_of(board, tmp_path))
    for version in ("1.0.0", "1.1.0"):
        versions.push(board.registry.store, folder, board.registry.key, version=version)
        board.pull(version)
        infos = model_infos(load_interpreters(config))
        assert (infos["color"].version, infos["color"].pulled) == ("1.0.0", version)
    assert infos["detector"].pulled is None
    listed = cli.main(["models", "--models-dir", str(board.models_dir)])
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith(COLOR)]
    assert (listed, line.split()[1:3]) == (EXIT_OK, ["1.0.0", "1.1.0"])
    info = Info(
        device="gate", version="1", boot_id="b", models=infos, cameras=(), labels=(), budget_ms=1,
        commands=(),
    )  # fmt: skip
    health = Health(status="ok", cameras={})
    first = next(lines_of(Report(health=health, info=info, stats=None)))
    assert first.endswith(
        f"yolox-nano-352 {infos['detector'].version}, {COLOR} 1.0.0 (pulled as 1.1.0)"
    )


@pytest.mark.parametrize("is_named", [True, False])
def test_pull_says_whether_the_daemon_uses_the_model(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_named: bool
) -> None:
    board.registry.push("1.0.0")
    path = config_of(board, tmp_path)
    if not is_named:
        path.write_text(path.read_text().replace(COLOR, "color-64"))
    pull = ["models", "pull", COLOR, "--version", "1.0.0", "--config", str(path)]
    assert cli.main(pull) == EXIT_OK
    printed = capsys.readouterr().out
    assert ("The daemon takes it at its next reload" in printed) == is_named
    assert (f"The daemon does not use it: name it in {path}" in printed) != is_named


def test_starts_without_a_camera_end_no_trial(
    board: Board, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    for version in ("1.0.0", "1.1.0"):
        model_update.confirm({board.shelf: board.shelf.active})
        board.registry.push(version)
        board.pull(version)
    daemon = Daemon(
        tmp_path, mosquitto.port, models_dir=str(board.models_dir), color={"model": COLOR},
        cameras={"front": {"source": "/dev/video77"}},
    )  # fmt: skip
    for count in range(MAX_STARTS + 1):
        daemon.log.clear()
        with daemon:
            daemon.wait_for_log("state=lost")
            daemon.kill() if count % 2 else daemon.stop()
    assert board.shelf.state().trial == board.loaded() == "1.1.0"


def test_version_that_ends_the_daemon_at_its_first_frame_is_given_up(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0.0", "1.1.0"):
        model_update.confirm({board.shelf: board.shelf.active})
        board.registry.push(version)
        board.pull(version)
    daemon = Daemon(tmp_path, 9, models_dir=str(board.models_dir), color={"model": COLOR})
    config = config_file.load(daemon.config_path)

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("in native code")

    monkeypatch.setattr(Pipeline, "process", crash)
    ran = []
    for _ in range(MAX_STARTS + 1):
        with pytest.raises(RuntimeError, match="in native code"):
            Service(daemon.config_path, config, lambda: config).run()
        ran.append(board.loaded())
    assert ran == ["1.1.0"] * MAX_STARTS + ["1.0.0"]


def test_what_the_daemon_logs_before_it_is_connected_is_published(
    board: Board, tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    """As a version that is rolled back at the start."""
    for version in ("1.0.0", "1.1.0"):
        model_update.confirm({board.shelf: board.shelf.active})
        board.registry.push(version)
        board.pull(version)
    (board.models_dir / COLOR / "model.tflite").write_bytes(b"TFL3")
    daemon = Daemon(
        tmp_path, mosquitto.port, models_dir=str(board.models_dir), color={"model": COLOR},
        log={"mqtt_level": "warning"},
    )  # fmt: skip
    with daemon:
        (first, *_) = subscriber.wait_for_topic("edge/gate/log")
    record = json.loads(first.payload)
    assert record["event"] == "model.rolled_back"
    assert record["fields"]["from"] == "1.1.0"


def test_answer_to_a_reload_names_the_version_that_was_rolled_back_to(
    board: Board, tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber
) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    daemon = Daemon(
        tmp_path, mosquitto.port, models_dir=str(board.models_dir), color={"model": COLOR},
        motion={"enabled": False},
    )  # fmt: skip
    with daemon:
        daemon.wait_for_log("model.confirmed name=tiny-color version=1.0.0")
        mosquitto.wait_for_log("edge/gate/command/+ (QoS 1)")
        board.registry.push("1.1.0")
        board.pull("1.1.0")
        (board.models_dir / COLOR / "model.tflite").write_bytes(b"TFL3")
        subscriber.publish("edge/gate/command/reload", b"{}")
        (answer,) = subscriber.wait_for_topic("edge/gate/response/reload")
    result = json.loads(answer.payload)["result"]
    assert (result["reloaded"], result["models"]["color"]["pulled"]) == (True, "1.0.0")
