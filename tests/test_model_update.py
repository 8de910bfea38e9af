"""A board accepts only signed versions, tries them, and rolls back when they fail."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from boards import Board
from edge import model_store, model_update
from edge.errors import ConfigError, ModelError
from edge.model_shelf import PARTIAL, STATE_NAME, Shelf
from edge.model_update import MAX_STARTS
from edge.registry import VERSION_NAME
from edge.signature import SecretKey, SignatureError
from models import COLOR, detect_folder
from registered import Registry, golden_folder

KILLS = 40


def test_pulled_version_is_loaded(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().trial == "1.0.0"


def test_next_version_replaces_the_current_one_which_is_kept(board: Board) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        board.registry.push(version)
        board.pull(version)
        model_update.confirm({board.shelf: board.shelf.active})
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
    board.pull("1.1.0")
    assert board.loaded() == "1.1.0"


def test_version_that_a_rollback_returned_to_is_active_already(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
        model_update.confirm({board.shelf: board.shelf.active})
    model_update.roll_back(board.shelf, "asked for", ())
    before = board.shelf.state()
    board.pull("1.0.0")  # what a timer does once it is in production again
    assert board.loaded() == "1.0.0"
    assert board.shelf.state() == before


def test_what_is_pulled_is_on_disk_before_it_is_linked(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        synced.append((name, board.shelf.link.is_symlink()))

    board.registry.push("1.0.0")
    monkeypatch.setattr(os, "fsync", fsync)
    board.pull("1.0.0")
    files = {path.name for path in (board.shelf.folder / "1.0.0").iterdir()}
    (part,) = {name for name, _ in synced if name.startswith(PARTIAL)}
    order = [part, COLOR, f".{STATE_NAME}.part", COLOR]
    assert {name for name, _ in synced[:-5]} == files
    assert synced[-5:] == [*((name, False) for name in order), (board.models_dir.name, True)]


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
    with pytest.raises(ModelError, match="failed or was rolled back"):
        board.pull("1.1.0")


def test_version_that_never_processes_a_frame_is_rolled_back(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
        if version == "1.0.0":
            model_update.confirm({board.shelf: board.shelf.active})
    for _ in range(MAX_STARTS):
        model_update.count_starts([board.shelf], ())
        assert board.loaded() == "1.1.0"
    model_update.count_starts([board.shelf], ())
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().refused == ("1.1.0",)


def test_frame_ends_the_trial(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    model_update.confirm({board.shelf: board.shelf.active})
    for _ in range(MAX_STARTS + 2):
        model_update.count_starts([board.shelf], ())
    assert board.loaded() == "1.0.0"
    assert not model_update.give_up_trials([board.shelf], "an error of the config", ())


def test_frame_with_an_older_version_does_not_end_the_trial_of_a_newer_one(
    board: Board,
) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    loaded = {board.shelf: board.shelf.active}
    board.registry.push("1.1.0")
    board.pull("1.1.0")
    before = board.shelf.state()
    model_update.confirm(loaded)
    assert board.shelf.state() == before
    assert before.trial == "1.1.0"


def test_daemon_and_pull_change_link_and_state_under_a_lock(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = []

    def locked(change: Callable[[Shelf, Any], None]) -> Callable[[Shelf, Any], None]:
        def call(shelf: Shelf, what: Any) -> None:
            with (shelf.folder / ".state.lock").open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            changes.append(change(shelf, what))

        return call

    for name in ("remember", "switch"):
        monkeypatch.setattr(Shelf, name, locked(getattr(Shelf, name)))
    shelves, loaded = [board.shelf], {board.shelf: "1.0.0"}
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    model_update.count_starts(shelves, ())
    model_update.wait_for_frame(loaded)
    model_update.begin_frame(loaded)
    model_update.confirm(loaded)
    board.register_wrong("1.1.0")
    with pytest.raises(ModelError, match="canary run failed"):
        board.pull("1.1.0")
    board.registry.push("1.2.0")
    board.pull("1.2.0")
    model_update.try_again(model_update.give_up_trials(shelves, "test", ()))
    assert (board.loaded(), len(changes)) == ("1.2.0", 2 + 4 + 1 + 2 + 2 + 2)


def test_first_pulled_version_rolls_back_to_the_shipped_one(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden_folder(tmp_path, "0.9.0").rename(tmp_path / COLOR)
    monkeypatch.setattr(model_store, "SHIPPED_DIRS", (tmp_path,))
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    assert model_update.roll_back(board.shelf, "test", ()) is None
    assert not board.shelf.link.is_symlink()
    assert board.loaded() == "0.9.0"


def test_only_version_of_an_own_model_stays(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    for _ in range(model_update.MAX_STARTS + 1):  # the camera is unplugged
        model_update.count_starts([board.shelf], ())
    assert board.loaded() == "1.0.0"
    assert not model_update.give_up_trials([board.shelf], "test", ())
    with pytest.raises(ModelError, match=r"1\.0\.0 stays, without it there is none"):
        model_update.roll_back(board.shelf, "test", ())
    model_update.confirm({board.shelf: "1.0.0"})
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().trial is None


def test_rolled_back_version_is_pulled_again_with_force(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
        model_update.confirm({board.shelf: version})
    model_update.roll_back(board.shelf, "test", ())
    with pytest.raises(ModelError, match="rolled back here; --force tries again"):
        board.pull("1.1.0")
    board.pull("1.1.0", is_forced=True)
    assert board.loaded() == "1.1.0"
    assert board.shelf.state().refused == ()


def test_concurrent_pull_is_refused(board: Board) -> None:
    board.registry.push("1.0.0")
    with board.shelf.pulling(), pytest.raises(ModelError, match="being pulled already"):
        board.pull("1.0.0")
    board.pull("1.0.0")
    assert board.loaded() == "1.0.0"


def test_damaged_version_is_downloaded_again_and_the_active_one_too(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.registry.push(version)
        board.pull(version)
        model_update.confirm({board.shelf: version})
    pictures = [board.shelf.folder / version / "golden.png" for version in ("1.0.0", "1.1.0")]
    for picture in pictures:
        picture.write_bytes(b"")
    store, key = board.registry.store, f"{COLOR}/1.1.0/version.json"
    content = store.get(key, 1_000_000)
    store.put(key, b"")
    with pytest.raises(SignatureError, match=r"version\.json is damaged"):
        board.pull("1.1.0")
    assert pictures[1].exists()  # kept until there is a better one
    store.put(key, content)
    board.pull("1.1.0")
    assert pictures[1].stat().st_size > 0
    assert board.loaded() == "1.1.0"
    assert not list(board.shelf.folder.glob(f"{PARTIAL}*"))
    board.pull("1.0.0", is_forced=True)
    assert board.loaded() == "1.0.0"


def test_every_user_may_read_a_pulled_version(board: Board) -> None:
    board.registry.push("1.0.0")
    board.pull("1.0.0")
    assert (board.shelf.folder / "1.0.0").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("is_link", [False, True])
def test_own_folder_is_not_overwritten(board: Board, tmp_path: Path, *, is_link: bool) -> None:
    board.registry.push("1.0.0")
    if is_link:
        board.shelf.link.symlink_to(tmp_path)
    else:
        board.shelf.link.mkdir()
    with pytest.raises(ModelError, match="was not pulled"):
        board.pull("1.0.0")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", STATE_NAME])
def test_names_cannot_leave_the_folder(board: Board, name: str) -> None:
    with pytest.raises(ModelError, match="not a name"):
        board.pull(name)


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
        kills = itertools.count()
        while next(kills) < KILLS or not cut:  # a busy machine needs more until one hits a download
            parent.stdin.write("pull\n")
            child = int(parent.stdout.readline())
            pause.wait(chance.uniform(0.0, 0.15))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "dead\n"
            cut += bool(list(board.shelf.folder.glob(".partial-*")))
            seen.add(board.loaded())
            board.shelf.state()
        parent.stdin.close()
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
    (folder / "golden.png").symlink_to("nowhere")
    with pytest.raises(SignatureError, match=r"golden\.png: No such file or directory; pull it"):
        board.loaded()


def test_shipped_models_need_no_signature_but_others_do(tmp_path: Path) -> None:
    trusted = (SecretKey.generate().public,)
    model_update.refuse_unsigned(model_store.find("color-64"), trusted)
    own = detect_folder(tmp_path)
    model_update.refuse_unsigned(own, ())  # signatures are not required
    with pytest.raises(SignatureError, match="edge models pull"):
        model_update.refuse_unsigned(own, trusted)


@pytest.mark.parametrize("name", ["n" * 300, "file"])
def test_inaccessible_state_is_a_model_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="check models_dir"):
        Shelf(tmp_path / name, COLOR).state()
