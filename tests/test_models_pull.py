"""`edge models pull` and `rollback`, and the daemon that tries a pulled version."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from asking import ask
from boards import Board, config_of
from daemon import CLIP, Daemon
from edge import cli, config_file, model_store, model_update
from edge.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE, EXIT_UNCHANGED, ConfigError
from edge.model_shelf import Shelf, State
from edge.model_update import MAX_STARTS
from edge.service.parts import build_parts, load_interpreters
from edge.signature import PublicKey
from models import COLOR
from mosquitto import Mosquitto, Subscriber
from registered import golden_folder
from tools.registry import versions
from waiting import wait_until

NOBODY = 65534


def test_edge_models_pulls_the_production_version(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
    config = str(config_of(board, tmp_path))
    pull = ["models", "pull", COLOR, "--config", config]
    assert cli.main(pull) == EXIT_CONFIG
    assert "promote one" in capsys.readouterr().err
    store, key = board.registry.store, board.registry.key
    versions.promote(store, COLOR, "1.0.0", "production", key)
    assert cli.main(pull) == EXIT_OK
    assert board.loaded() == "1.0.0"
    assert cli.main(["check-config", config]) == EXIT_OK
    model_update.confirm({board.shelf: board.shelf.active})
    versions.promote(store, COLOR, "1.1.0", "production", key)
    assert cli.main([*pull, "--exit-code"]) == EXIT_OK
    assert cli.main([*pull, "--exit-code"]) == EXIT_UNCHANGED
    assert cli.main(pull) == EXIT_OK
    assert "active already" in capsys.readouterr().out
    (board.models_dir / COLOR / "model.tflite").write_bytes(b"")
    assert cli.main([*pull, "--exit-code"]) == EXIT_OK  # so that a timer starts the daemon again
    assert "was damaged here, pulled again" in capsys.readouterr().out
    assert cli.main(["models", "rollback", COLOR, "--config", config]) == EXIT_OK
    assert f"{COLOR}: 1.0.0 is linked" in capsys.readouterr().out
    assert board.loaded() == "1.0.0"


def test_registry_folder_that_is_not_there_is_named(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(config_of(board, tmp_path))
    shutil.rmtree(board.registry.folder / "registry", ignore_errors=True)
    assert cli.main(["models", "pull", COLOR, "--config", config]) == EXIT_UNAVAILABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("registry: no such folder; is it mounted?")


def test_rollback_of_a_path_or_in_a_blocked_folder_is_a_one_line_error(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (board.models_dir / ".versions").write_text("")
    config = str(config_of(board, tmp_path))
    for name, part in (("../up", "not a name"), (COLOR, "cannot go back: [Errno 20]")):
        assert cli.main(["models", "rollback", name, "--config", config]) == EXIT_CONFIG
        (line,) = capsys.readouterr().err.splitlines()
        assert part in line
    assert [path.name for path in board.models_dir.iterdir()] == [".versions"]


@pytest.fixture
def nobody_folder() -> Iterator[Path]:
    """A folder of another user in which root pulls."""
    if os.geteuid() != 0:
        pytest.skip("only root can pull for another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Let this process act as the user nobody."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize("is_good", [True, False], ids=["confirmed", "rolled back"])
def test_daemon_of_another_user_ends_the_trial_of_what_root_pulled(
    board: Board, tmp_path: Path, nobody_folder: Path, is_good: bool
) -> None:
    board.models_dir = nobody_folder / "state" / "models"
    board.shelf = Shelf(board.models_dir, COLOR)
    config = str(config_of(board, tmp_path))
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        pull = ["models", "pull", COLOR, "--version", version, "--config", config]
        assert cli.main(pull) == EXIT_OK
        with as_nobody():
            model_update.count_starts([board.shelf], ())
            assert board.shelf.state().starts == 1
            if is_good or version == "1.0.0":
                model_update.confirm({board.shelf: board.shelf.active})
            else:
                assert model_update.give_up_trials([board.shelf], "test", ())
    assert board.shelf.state().trial is None
    assert board.loaded() == ("1.1.0" if is_good else "1.0.0")
    rollback = cli.main(["models", "rollback", COLOR, "--config", config])
    assert rollback == (EXIT_OK if is_good else EXIT_CONFIG)  # no other version is left
    owners = {path.lstat().st_uid for path in (board.models_dir, *nobody_folder.rglob("*"))}
    assert owners == {NOBODY}


def test_root_of_any_umask_pulls_what_every_daemon_may_read(board: Board, tmp_path: Path) -> None:
    board.models_dir = tmp_path / "new/models"
    config = str(config_of(board, tmp_path))
    board.registry.push("1.0.0")
    before = os.umask(0o077)
    try:
        pull = ["models", "pull", COLOR, "--version", "1.0.0", "--config", config]
        assert cli.main(pull) == EXIT_OK
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        assert path.stat().st_mode & 0o044 == 0o044, path


@pytest.mark.parametrize("action", ["pull", "rollback"])
def test_models_dir_that_cannot_be_created_is_named(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    (tmp_path / "file").write_text("")
    board.models_dir = tmp_path / "file" / "models"
    config = str(config_of(board, tmp_path))
    assert cli.main(["models", action, COLOR, "--config", config]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"models_dir {board.models_dir}: Not a directory" in line


def test_shipped_models_serve_until_the_first_pull_makes_models_dir(
    board: Board, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """As on a board that starts from an image: its timer pulls later."""
    models = {"registry": str(board.registry.folder / "registry")}
    missing = tmp_path / "state/models"
    daemon = Daemon(tmp_path, mosquitto.port, models_dir=str(missing), models=models)
    with daemon:
        daemon.wait_for_log(f"model.none_pulled models_dir={missing}")
        daemon.wait_for_log("service.started")
        assert daemon.stop() == EXIT_OK


def test_pull_while_the_daemon_loads_mixes_no_versions(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at boot, when timer and daemon start together; the mixture would be rolled back."""
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
    board.pull("1.0.0")
    model_update.confirm({board.shelf: board.shelf.active})
    check = model_update.refuse_unsigned

    def pull_after_the_check(folder: Path, trusted: Sequence[PublicKey]) -> None:
        check(folder, trusted)
        if not model_store.is_shipped(folder):
            board.pull("1.1.0")

    config = config_file.load(config_of(board, tmp_path))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(model_update, "refuse_unsigned", pull_after_the_check)
        interpreters = load_interpreters(config)
    assert interpreters["color"].manifest.version == "1.0.0"
    assert board.loaded() == "1.1.0"


def test_pull_that_removes_what_the_daemon_loads_is_not_blamed_for_it(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at boot with a version on trial: a pull keeps only the one before."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        board.registry.push(version)
    board.pull("1.0.0")
    model_update.confirm({board.shelf: board.shelf.active})
    board.pull("1.1.0")
    find = model_store.find

    def pull_after_the_look(model: str, models_dir: str | None) -> Path:
        folder = find(model, models_dir).resolve()
        if folder.name == "1.1.0":
            board.pull("1.2.0")
        return folder

    monkeypatch.setattr(model_store, "find", pull_after_the_look)
    parts = build_parts(config_file.load(config_of(board, tmp_path)))
    assert parts.interpreters["color"].manifest.version == board.loaded() == "1.2.0"
    assert board.shelf.state().trial == "1.2.0"
    assert board.shelf.state().refused == ()


def test_fault_of_the_config_is_not_blamed_on_the_version_on_trial(
    board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
        if version == "1.0.0":
            model_update.confirm({board.shelf: board.shelf.active})
    path = config_of(board, tmp_path)
    good = path.read_text()
    path.write_text(f"{good}detector: {{labels: {{persn: {{enabled: false}}}}}}\n")
    for _ in range(MAX_STARTS + 1):
        model_update.count_starts([board.shelf], ())
        with pytest.raises(ConfigError, match="persn"):
            build_parts(config_file.load(path))
    assert board.loaded() == board.shelf.state().trial == "1.1.0"
    assert "model.trial_resumed name=tiny-color version=1.1.0" in caplog.text
    path.write_text(good)
    build_parts(config_file.load(path)).confirm_models()
    assert board.shelf.state() == State(
        serial=2, bundle_sha256=board.shelf.state().bundle_sha256, previous="1.0.0"
    )


@pytest.mark.parametrize("is_paused", [False, True], ids=["without a camera", "paused"])
def test_reloads_without_frames_to_detect_in_end_no_trial(
    board: Board, tmp_path: Path, mosquitto: Mosquitto, subscriber: Subscriber, is_paused: bool
) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    model_update.confirm({board.shelf: board.shelf.active})
    daemon = Daemon(
        tmp_path, mosquitto.port, models_dir=str(board.models_dir), color={"model": COLOR},
        cameras={"front": {"source": str(CLIP) if is_paused else "/dev/video77", "loop": True}},
    )  # fmt: skip
    with daemon:
        if is_paused:
            subscriber.wait_for_topic("edge/gate/info")
            assert ask(subscriber, "pause", {}).status == "ok"
        else:
            daemon.wait_for_log("state=lost")
        board.registry.push("1.1.0")
        board.pull("1.1.0")
        for count in range(1, MAX_STARTS + 2):
            daemon.signal(signal.SIGHUP)
            wait_until(lambda: sum("service.reloaded" in one for one in daemon.log) >= count, 20)  # noqa: B023
        assert daemon.stop() == EXIT_OK
    assert board.shelf.state().trial == board.loaded() == "1.1.0"
    assert board.shelf.state().starts == 0


def test_mistyped_models_dir_without_a_registry_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(f"models_dir: {tmp_path}/none\ncameras: {{front: {{source: 0}}}}\n")
    assert cli.main(["check-config", str(config)]) == EXIT_CONFIG
    assert f"models_dir {tmp_path}/none: no folder" in capsys.readouterr().err


def test_pull_asks_about_the_address_of_a_registry_without_the_model(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with a mistyped bucket."""
    (board.registry.folder / "registry").mkdir()
    config = config_of(board, tmp_path)
    assert cli.main(["models", "pull", COLOR, "--config", str(config)]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("in a stage; check name and address, or promote one")


def test_unsigned_model_is_refused_by_check_config(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_folder(tmp_path, "1.0.0").rename(board.models_dir / COLOR)
    assert cli.main(["check-config", str(config_of(board, tmp_path))]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "not signed" in line


def test_daemon_confirms_a_pulled_version_and_rolls_back_one_that_it_cannot_run(
    board: Board, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    registry_, key = board.registry, board.registry.key
    registry_.push("1.0.0")
    board.pull("1.0.0")
    models = {"trusted_keys": [key.public.text()]}
    daemon = Daemon(
        tmp_path, mosquitto.port, models_dir=str(board.models_dir), models=models,
        color={"model": COLOR}, motion={"enabled": False},
    )  # fmt: skip
    with daemon:
        daemon.wait_for_log("model.confirmed name=tiny-color version=1.0.0")
        assert daemon.stop() == EXIT_OK
    # A version whose canary held, but whose file the card damaged afterwards.
    registry_.push("1.1.0")
    board.pull("1.1.0")
    (board.models_dir / COLOR / "model.tflite").write_bytes(b"TFL3")
    with daemon:
        daemon.wait_for_log("model.rolled_back name=tiny-color from=1.1.0 to=1.0.0")
        daemon.wait_for_log("service.started")
        assert daemon.stop() == EXIT_OK
    assert board.loaded() == "1.0.0"
    # Confirmed once, then changed: no version to roll back to, and it must not run.
    (board.models_dir / COLOR / "CARD.md").write_text("changed")
    with daemon:
        assert daemon.wait() == EXIT_CONFIG
    wait_until(lambda: any("CARD.md" in line for line in daemon.log))


def test_root_pulls_with_the_rights_of_the_owner_of_models_dir(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only root may enter the folder above, as with the unit's DynamicUser."""
    if os.geteuid() != 0:
        pytest.skip("only root can pull for another user")
    tmp_path.chmod(0o700)
    os.chown(board.models_dir, NOBODY, NOBODY)
    board.registry.push("1.0.0")
    pull = ["models", "pull", COLOR, "--version", "1.0.0"]
    pull += ["--config", str(config_of(board, tmp_path))]
    others = tmp_path / "others"
    (others / "folder").mkdir(parents=True)
    planted = board.models_dir / ".versions" / COLOR
    planted.parent.mkdir()
    planted.symlink_to(others)
    assert cli.main(pull) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{planted}: Permission denied; check models_dir" in line
    assert [path.name for path in others.iterdir()] == ["folder"]
    shutil.rmtree(planted.parent)
    assert cli.main(pull) == EXIT_OK
    assert board.loaded() == "1.0.0"
    assert {path.lstat().st_uid for path in board.models_dir.rglob("*")} == {NOBODY}
    assert os.geteuid() == os.getegid() == 0


def test_root_that_may_not_act_as_the_owner_says_so(board: Board, tmp_path: Path) -> None:
    """As in a container whose capabilities were dropped."""
    if os.geteuid() != 0:
        pytest.skip("only root can pull for another user")
    os.chown(board.models_dir, NOBODY, NOBODY)
    board.registry.push("1.0.0")
    pull = ["-m", "edge", "models", "pull", COLOR, "--config", str(config_of(board, tmp_path))]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-setuid", sys.executable, *pull],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_CONFIG
    (line,) = done.stderr.splitlines()
    assert f"root may not act as user {NOBODY} here (it lacks CAP_SETUID or CAP_SETGID)" in line


def test_root_does_not_follow_a_link_in_place_of_models_dir(board: Board, tmp_path: Path) -> None:
    """Which leads to a folder of root, where the user has put a further link."""
    if os.geteuid() != 0:
        pytest.skip("only root can pull for another user")
    board.registry.push("1.0.0")
    state, others, public = tmp_path / "state", tmp_path / "others", tmp_path / "public"
    for folder in (state, others / "folder", public / ".versions"):
        folder.mkdir(parents=True)
    public.chmod(0o1777)
    (public / ".versions" / COLOR).symlink_to(others)
    board.models_dir = state / "models"
    board.models_dir.symlink_to(public)
    for path in (state, public / ".versions"):
        os.chown(path, NOBODY, NOBODY)
    pull = ["models", "pull", COLOR, "--version", "1.0.0"]
    assert cli.main([*pull, "--config", str(config_of(board, tmp_path))]) == EXIT_CONFIG
    assert [path.name for path in others.iterdir()] == ["folder"]
