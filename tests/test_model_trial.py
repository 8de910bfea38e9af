"""A pulled version is on trial until a frame was processed with it: how trials end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from boards import Board
from edge import model_update
from edge.bundle import BUNDLE_NAME, SIGNATURE_NAME
from edge.errors import ModelError
from edge.model_shelf import PARTIAL, STATE_NAME, Shelf
from edge.model_update import MAX_STARTS
from edge.signature import SecretKey


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board that works with 1.0.0 and has 1.1.0 on trial."""
    board = Board(tmp_path)
    for version in ("1.0.0", "1.1.0"):
        model_update.confirm({board.shelf: board.shelf.active})
        board.registry.push(version)
        board.pull(version)
    return board


def test_what_cannot_be_loaded_goes_back(board: Board) -> None:
    assert model_update.give_up_trials([board.shelf], "damaged", ())
    assert board.loaded() == "1.0.0"
    assert board.shelf.state().refused == ("1.1.0",)


def test_what_has_proved_itself_stays_when_a_daemon_cannot_be_built(board: Board) -> None:
    model_update.confirm({board.shelf: "1.1.0"})
    assert board.shelf.has_way_back
    assert not model_update.give_up_trials([board.shelf], "an error of the config", ())
    assert board.loaded() == "1.1.0"


def test_version_that_was_not_linked_before_a_power_cut_is_not_on_trial(board: Board) -> None:
    board.shelf.switch("1.0.0")
    before = board.shelf.state()
    for _ in range(MAX_STARTS + 1):
        model_update.count_starts([board.shelf], ())
    assert not model_update.give_up_trials([board.shelf], "test", ())
    assert board.shelf.state() == before
    assert board.loaded() == "1.0.0"


def test_only_starts_that_end_with_the_version_at_work_count(board: Board) -> None:
    loaded = {board.shelf: "1.1.0"}
    for _ in range(MAX_STARTS + 1):  # no frame comes
        model_update.count_starts([board.shelf], ())
        model_update.wait_for_frame(loaded)
    model_update.wait_for_frame(loaded)  # pulled again in between, or not counted on a full disk
    assert board.shelf.state().starts == 0
    for count in range(1, MAX_STARTS + 1):  # the first frame ends the daemon
        model_update.count_starts([board.shelf], ())
        model_update.wait_for_frame(loaded)
        model_update.begin_frame(loaded)
        assert board.shelf.state().starts == count
    assert board.loaded() == "1.1.0"
    model_update.count_starts([board.shelf], ())
    assert board.loaded() == "1.0.0"


def test_models_that_were_never_pulled_are_left_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "color-64")  # ships with edge: it would have a way back
    for _ in range(MAX_STARTS + 1):
        model_update.count_starts([shelf], ())
    assert not model_update.give_up_trials([shelf], "test", ())
    model_update.confirm({shelf: None})
    with pytest.raises(ModelError, match="color-64: no pulled version is active"):
        model_update.roll_back(shelf, "test", ())
    assert not [
        path for path in tmp_path.rglob("*") if path.name == STATE_NAME or path.is_symlink()
    ]


def test_pull_between_look_and_lock_keeps_its_trial(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = Shelf.changing

    @contextmanager
    def pulled_before(shelf: Shelf) -> Iterator[None]:
        monkeypatch.undo()
        board.registry.push("1.2.0")
        board.pull("1.2.0")
        with changing(shelf):
            yield

    monkeypatch.setattr(Shelf, "changing", pulled_before)
    model_update.confirm({board.shelf: "1.1.0"})
    assert board.shelf.state().trial == "1.2.0"


def test_rollback_goes_past_what_a_power_cut_left(board: Board) -> None:
    (board.shelf.folder / f"{PARTIAL}link").symlink_to(board.shelf.link.readlink())
    assert model_update.roll_back(board.shelf, "test", ()) == "1.0.0"
    assert board.loaded() == "1.0.0"


@pytest.mark.parametrize("is_cut_short", [True, False])
def test_version_is_no_way_back_for_itself(board: Board, *, is_cut_short: bool) -> None:
    """As after a pull of 1.1.0 that a power cut or the owner took back before it was linked."""
    if is_cut_short:
        board.shelf.switch("1.0.0")
    else:
        board.pull("1.0.0", is_forced=True)
    assert (board.shelf.active, board.shelf.state().previous) == ("1.0.0", "1.0.0")
    assert not board.shelf.has_way_back
    with pytest.raises(ModelError, match=r"1\.0\.0 stays, without it there is none"):
        model_update.roll_back(board.shelf, "test", ())
    assert board.shelf.state().refused == ()


def test_way_back_that_the_daemon_would_refuse_is_not_taken(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    new_key = SecretKey.generate()
    bundle = board.shelf.folder / "1.1.0" / BUNDLE_NAME
    bundle.with_name(SIGNATURE_NAME).write_bytes(new_key.sign(bundle.read_bytes(), ""))
    trusted = (new_key.public,)  # no longer the key that signed 1.0.0
    with pytest.raises(ModelError, match=r"1\.0\.0: signed by key .* not trusted here"):
        model_update.roll_back(board.shelf, "test", trusted)
    for _ in range(MAX_STARTS + 1):
        model_update.count_starts([board.shelf], trusted)
    assert not model_update.give_up_trials([board.shelf], "damaged", trusted)
    assert caplog.text.count("model.not_rolled_back name=tiny-color") == 2
    assert (board.shelf.active, board.shelf.state().refused) == ("1.1.0", ())


def test_next_pull_clears_what_a_power_cut_left(board: Board) -> None:
    folder = board.shelf.folder / f"{PARTIAL}download"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"half")
    (board.shelf.folder / f"{PARTIAL}link").symlink_to(board.shelf.link.readlink())
    board.pull("1.1.0")
    assert not list(board.shelf.folder.glob(f"{PARTIAL}*"))


def test_way_back_that_cannot_be_written_is_told_with_the_fault_before(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Shelf, "switch", read_only)
    with pytest.raises(ModelError, match=r"cannot go back: .*Read-only file system; damaged$"):
        model_update.give_up_trials([board.shelf], "damaged", ())


def test_way_back_is_taken_on_a_full_disk(
    board: Board, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Shelf, "remember", full)
    assert model_update.give_up_trials([board.shelf], "damaged", ())
    assert board.loaded() == "1.0.0"
    assert "model.refusal_not_kept name=tiny-color reason=[Errno 28]" in caplog.text
    assert not model_update.give_up_trials([board.shelf], "damaged", ())


def test_card_that_cannot_be_written_stops_no_daemon(
    board: Board, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    tried = {board.shelf: board.shelf.state()}
    loaded = {board.shelf: "1.1.0"}
    monkeypatch.setattr(Shelf, "remember", read_only)
    model_update.count_starts([board.shelf], ())
    model_update.wait_for_frame(loaded)
    model_update.begin_frame(loaded)
    model_update.confirm(loaded)
    model_update.try_again(tried)
    told = ["not_counted"] * 3 + ["not_ended", "not_resumed"]
    assert [line.split("model.trial_")[1].split()[0] for line in caplog.messages] == told


def test_damaged_state_stops_pulls_but_no_daemon(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    path = board.shelf.folder / STATE_NAME
    path.write_bytes(path.read_bytes()[:-5])
    model_update.count_starts([board.shelf], ())
    model_update.wait_for_frame({board.shelf: board.shelf.active})
    model_update.confirm({board.shelf: board.shelf.active})
    assert not model_update.give_up_trials([board.shelf], "damaged", ())
    assert "model.trial_unknown name=tiny-color reason=" in caplog.text
    with pytest.raises(ModelError, match=r"state\.json is damaged: .*; remove it and pull again"):
        board.pull("1.1.0")
    path.unlink()
    board.pull("1.1.0")
    assert board.loaded() == "1.1.0"
