"""A board takes only what a trusted key signed, proves it, and goes back when it fails."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

import yaml

from daemon import Daemon
from edge import bundle, cli, manifest, model_store, model_update
from edge.errors import EXIT_CONFIG, EXIT_OK, ConfigError, ModelError
from edge.interpreter import Interpreter
from edge.manifest import Golden
from edge.model_update import MAX_STARTS, Shelf
from edge.registry import VERSION_NAME
from edge.signature import SecretKey, SignatureError
from models import COLOR, change_manifest, detect_folder
from mosquitto import Mosquitto
from registered import Registry, golden_folder
from tools.registry import versions
from waiting import wait_until

KILLS = 40
NOBODY = 65534


class Board:
    """A registry that signs and a board that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder)
        self.models_dir = folder / "board"
        self.models_dir.mkdir()
        self.shelf = Shelf(self.models_dir, COLOR)

    def pull(self, version: str, *, is_forced: bool = False) -> None:
        model_update.pull(
            self.registry.store, self.shelf, version, self.registry.trusted, is_forced=is_forced
        )

    def loaded(self) -> str:
        """The version that a daemon gets, verified."""
        folder = model_store.find(COLOR, str(self.models_dir))
        model_update.refuse_unsigned(folder, self.registry.trusted)
        return Interpreter.load(folder).manifest.version

    def register_wrong(self, version: str) -> None:
        """Register, well signed, a version that does not give its golden result."""
        source = golden_folder(self.registry.folder / "wrong", version)
        good = manifest.read(source).golden
        assert good is not None
        wrong = dict.fromkeys(good.shares, 1 / 11)
        change_manifest(source, golden=Golden(file=good.file, tolerance=0, shares=wrong))
        new = bundle.describe(
            source, COLOR, version, versions._next_serial(self.registry.store, COLOR)
        )
        versions._upload(self.registry.store, source, new, self.registry.key)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_pulled_version_is_loaded(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().trial == "1.0.0"


def test_next_version_takes_the_place_and_the_one_before_is_kept(board: Board) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        board.registry.push(version)
        board.pull(version)
        model_update.confirm([board.shelf])
    assert board.loaded() == "1.2.0"
    kept = {path.name for path in board.shelf.folder.iterdir() if path.is_dir()}
    assert kept == {"1.1.0", "1.2.0"}


@pytest.mark.parametrize("name", ["model.tflite", "manifest.json", VERSION_NAME])
def test_tampered_version_changes_nothing(board: Board, name: str) -> None:
    board.registry.push("1.0.0")
    board.registry.push("1.1.0")
    board.pull("1.0.0")
    path = board.registry.file("1.1.0", name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SignatureError):
        board.pull("1.1.0")
    assert board.loaded() == "1.0.0"
    assert [path for path in board.shelf.folder.iterdir() if path.is_dir()] == [
        board.shelf.folder / "1.0.0"
    ]


def test_wrong_key_is_refused(board: Board) -> None:
    Registry(board.registry.folder, SecretKey.generate()).push("1.0.0")
    with pytest.raises(SignatureError, match="not trusted"):
        board.pull("1.0.0")
    assert not board.shelf.link.exists()


def test_without_trusted_keys_nothing_is_pulled(board: Board) -> None:
    board.registry.push("1.0.0")
    with pytest.raises(ConfigError, match="trusted_keys"):
        model_update.pull(board.registry.store, board.shelf, "1.0.0", (), is_forced=True)


def test_replayed_older_version_is_refused_unless_forced(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
    with pytest.raises(SignatureError, match="older"):
        board.pull("1.0.0")
    assert board.loaded() == "1.1.0"
    board.pull("1.0.0", is_forced=True)
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().serial == 2


def test_two_versions_of_one_serial_are_refused(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    rewound = Registry(board.registry.folder / "rewound", board.registry.key)
    rewound.folder.mkdir()
    rewound.push("9.0.0")
    with pytest.raises(SignatureError, match="its serial 1"):
        model_update.pull(
            rewound.store, board.shelf, "9.0.0", board.registry.trusted, is_forced=True
        )


def test_failed_canary_leaves_the_old_version_and_is_remembered(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    board.register_wrong("1.1.0")
    with pytest.raises(ModelError, match="canary run failed"):
        board.pull("1.1.0")
    assert board.loaded() == "1.0.0"
    with pytest.raises(ModelError, match="failed here before"):
        board.pull("1.1.0")


def test_version_that_never_gets_to_a_frame_is_given_up(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
        if version == "1.0.0":
            model_update.confirm([board.shelf])
    for _ in range(MAX_STARTS):
        model_update.count_starts([board.shelf])
        assert board.loaded() == "1.1.0"
    model_update.count_starts([board.shelf])
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().refused == ("1.1.0",)


def test_frame_ends_the_trial(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    model_update.confirm([board.shelf])
    for _ in range(MAX_STARTS + 2):
        model_update.count_starts([board.shelf])
    assert board.loaded() == "1.0.0"
    assert not model_update.give_up_trials([board.shelf], "an error of the config")


def test_first_pulled_version_goes_back_to_the_shipped_one(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    assert model_update.roll_back(board.shelf, "test") is None
    assert not board.shelf.link.is_symlink()


def test_own_folder_is_not_overwritten(board: Board) -> None:
    board.registry.push("1.0.0")
    board.shelf.link.mkdir()
    with pytest.raises(ModelError, match="was not pulled"):
        board.pull("1.0.0")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", ""])
def test_names_cannot_leave_the_folder(board: Board, name: str) -> None:
    with pytest.raises(ModelError, match="no name"):
        board.pull(name)


def test_rollback_of_a_path_or_in_a_blocked_folder_is_one_line(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (board.models_dir / ".versions").write_text("")
    config = str(config_of(board, tmp_path))
    for name, part in (("../up", "no name"), (COLOR, "cannot go back: [Errno 20]")):
        assert cli.main(["models", "rollback", name, "--config", config]) == EXIT_CONFIG
        (line,) = capsys.readouterr().err.splitlines()
        assert part in line
    assert [path.name for path in board.models_dir.iterdir()] == [".versions"]


def test_pull_into_a_blocked_folder_names_models_dir(board: Board) -> None:
    board.registry.push("1.0.0")
    (board.models_dir / ".versions").write_text("")
    with pytest.raises(ModelError, match=r"\.versions/.*: Not a directory; check models_dir$"):
        board.pull("1.0.0")


def test_power_cut_at_any_moment_leaves_a_whole_verified_version(board: Board) -> None:
    board.registry.push("1.0.0")
    board.registry.push("1.1.0")
    board.pull("1.0.0")
    chance, pause = random.Random(7), threading.Event()
    command = [sys.executable, str(Path(__file__).with_name("pull_child.py"))]
    command += [str(board.registry.folder), board.registry.key.public.text()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    seen, cut = set(), 0
    with subprocess.Popen(command, **pipes) as parent:
        for _ in range(KILLS):
            parent.stdin.write("pull\n")
            child = int(parent.stdout.readline())
            pause.wait(chance.uniform(0.0, 0.15))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "dead\n"
            cut += bool(list(board.shelf.folder.glob(".partial-*")))
            seen.add(board.loaded())
            board.shelf.state()
        parent.stdin.close()
    assert cut, "no kill hit a download"
    board.pull("1.1.0", is_forced=True)
    assert board.loaded() == "1.1.0"
    assert seen <= {"1.0.0", "1.1.0"}
    assert not list(board.shelf.folder.glob(".partial-*"))


def test_changed_extra_or_missing_file_of_an_installed_folder_is_refused(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    folder = board.models_dir / COLOR
    (folder / "extra.py").write_text("")
    with pytest.raises(SignatureError, match=r"extra\.py"):
        board.loaded()
    (folder / "extra.py").unlink()
    (folder / "golden.png").write_bytes(b"")
    with pytest.raises(SignatureError, match=r"golden\.png"):
        board.loaded()
    (folder / "golden.png").unlink()
    with pytest.raises(SignatureError, match="missing"):
        board.loaded()


def test_shipped_models_need_no_signature_but_others_do(tmp_path: Path) -> None:
    trusted = (SecretKey.generate().public,)
    model_update.refuse_unsigned(model_store.find("color-64"), trusted)
    with pytest.raises(SignatureError, match="edge models pull"):
        model_update.refuse_unsigned(detect_folder(tmp_path), trusted)


def config_of(board: Board, folder: Path) -> Path:
    path = folder / "edge.yaml"
    models = {
        "registry": str(board.registry.folder / "registry"),
        "trusted_keys": [board.registry.key.public.text()],
    }
    cameras = {"front": {"source": 0}}
    color = {"model": COLOR}
    config = {
        "models_dir": str(board.models_dir),
        "models": models,
        "cameras": cameras,
        "color": color,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_edge_models_pulls_what_is_in_production(
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
    model_update.confirm([board.shelf])
    versions.promote(store, COLOR, "1.1.0", "production", key)
    assert cli.main(pull) == EXIT_OK
    assert cli.main(pull) == EXIT_OK
    assert "active already" in capsys.readouterr().out
    assert cli.main(["models", "rollback", COLOR, "--config", config]) == EXIT_OK
    assert board.loaded() == "1.0.0"


@pytest.fixture
def nobodys() -> Iterator[Path]:
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


@pytest.mark.parametrize("is_good", [True, False], ids=["confirmed", "given up"])
def test_daemon_of_another_user_ends_the_trial_of_what_root_pulled(
    board: Board, tmp_path: Path, nobodys: Path, is_good: bool
) -> None:
    board.models_dir = nobodys / "state" / "models"
    board.shelf = Shelf(board.models_dir, COLOR)
    config = str(config_of(board, tmp_path))
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        pull = ["models", "pull", COLOR, "--version", version, "--config", config]
        assert cli.main(pull) == EXIT_OK
        with as_nobody():
            model_update.count_starts([board.shelf])
            assert board.shelf.state().starts == 1
            if is_good or version == "1.0.0":
                model_update.confirm([board.shelf])
            else:
                assert model_update.give_up_trials([board.shelf], "test")
    assert board.shelf.state().trial is None
    assert board.loaded() == ("1.1.0" if is_good else "1.0.0")
    assert cli.main(["models", "rollback", COLOR, "--config", config]) == EXIT_OK
    owners = {path.lstat().st_uid for path in (board.models_dir, *nobodys.rglob("*"))}
    assert owners == {NOBODY}


@pytest.mark.parametrize("name", ["n" * 300, "file"])
def test_state_that_cannot_be_looked_at_is_a_model_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="check models_dir"):
        model_update.count_starts([Shelf(tmp_path / name, COLOR)])


@pytest.mark.parametrize("action", ["pull", "rollback"])
def test_models_dir_that_cannot_be_made_is_named(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    (tmp_path / "file").write_text("")
    board.models_dir = tmp_path / "file" / "models"
    config = str(config_of(board, tmp_path))
    assert cli.main(["models", action, COLOR, "--config", config]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"models_dir {board.models_dir}: Not a directory" in line


def test_unsigned_model_is_refused_by_check_config(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden_folder(tmp_path, "1.0.0").rename(board.models_dir / COLOR)
    assert cli.main(["check-config", str(config_of(board, tmp_path))]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "not signed" in line


def test_daemon_proves_a_pulled_version_and_rolls_back_one_that_it_cannot_run(
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
    # Proved once, then changed: nothing to roll back to, and it must not run.
    (board.models_dir / COLOR / "CARD.md").write_text("changed")
    with daemon:
        assert daemon.wait() == EXIT_CONFIG
    wait_until(lambda: any("CARD.md" in line for line in daemon.log))
