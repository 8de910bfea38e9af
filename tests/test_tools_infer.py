"""`edge-tools infer`: the entries of `edge infer`, once each, however the run was stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest

from dask_cluster import running
from disk import full_disk
from edge import manifest
from edge.errors import (
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_NO_INPUT,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CameraError,
    ModelError,
)
from edge.inference.tasks import DetectTask
from inferring import RED, ROOT, Infer, Spread, save, street, video
from models import CLASS_COLOR, COLOR, change_manifest, color_folder, detect_folder
from tools import infer as command
from tools import infer_output
from tools.cli import main
from waiting import wait_until

FRAMES = 12


@pytest.fixture
def spread(tiny_models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Spread:
    return Spread(tiny_models_dir, tmp_path / "found.jsonl", capsys)


def by_file(entries: list[Any]) -> list[Any]:
    return sorted(entries, key=lambda entry: (entry["file"], entry.get("frame", 0)))


def mixed_folder(folder: Path, pictures: int = 6) -> Path:
    """Pictures and, last by name, a video."""
    for number in range(pictures):
        bgr = street()
        bgr[:64, : 32 + number] = RED
        save(folder / f"{number}.png", bgr)
    return video(folder / "z.avi", FRAMES).parent


def linked_folder(folder: Path, pictures: int) -> Path:
    """Many names of one picture."""
    first = save(folder / "0000.png", street())
    for number in range(1, pictures):
        (folder / f"{number:04}.png").hardlink_to(first)
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_entries_are_those_of_edge_infer_and_those_of_a_file_stand_together(
    tmp_path: Path, spread: Spread, infer: Infer, workers: int
) -> None:
    folder = mixed_folder(tmp_path / "in")
    save(folder / "deeper" / "a.png", street())
    _, document = infer(folder, "--recursive")
    assert spread(folder, folder / "1.png", "--recursive", workers=workers) == EXIT_OK
    assert by_file(spread.entries) == by_file(document)
    assert [*spread.entries[0]] == [*document[0]]
    files = [name for name, _ in groupby(spread.entries, lambda entry: entry["file"])]
    assert len(files) == len({*files}) == 8
    frames = [entry["frame"] for entry in spread.entries if "frame" in entry]
    assert frames == [*range(1, FRAMES + 1)]


def test_color_task_with_objects_gives_the_entries_of_edge_infer(
    tmp_path: Path, spread: Spread, infer: Infer
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "crops" / name, np.full((40, 20, 3), RED, np.uint8))
    objects = tmp_path / "objects.json"
    labels = {"a.png": "dog", f"{tmp_path}/crops/b.png": "car", "c.png": "cow"}
    objects.write_text(json.dumps(labels))
    options = (tmp_path / "crops", "--objects", objects, "--color-model", CLASS_COLOR)
    _, document = infer(*options, task="color")
    assert spread(*options, task="color", workers=2) == EXIT_OK
    assert by_file(spread.entries) == document
    assert [entry["dominant"] for entry in document] == ["brown", "red", "red"]
    assert "labels=cow; tiny-class-color knows person, car, dog" in spread.complaints[0]
    assert spread(*options, "--min-score", "0.9", task="color") == EXIT_OK  # means nothing here


def test_files_are_named_as_given_and_found_from_there(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed_folder(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    assert spread("in", tmp_path / "in" / "0.png", workers=2) == EXIT_OK
    names = {entry["file"] for entry in spread.entries}
    assert names >= {"in/0.png", "in/z.avi", f"{tmp_path}/in/0.png"}
    monkeypatch.chdir(tmp_path / "in")  # here they would be others
    assert spread("in") == EXIT_USAGE
    assert f"other settings (folder {tmp_path}, now {tmp_path}/in)" in spread.complaints[0]
    spread.output = tmp_path / "absolute.jsonl"
    for folder in (tmp_path, tmp_path / "in"):
        monkeypatch.chdir(folder)
        assert spread(tmp_path / "in" / "0.png") == EXIT_OK


def test_unreadable_files_are_named_and_tried_again(tmp_path: Path, spread: Spread) -> None:
    folder = mixed_folder(tmp_path / "in")
    whole = (folder / "z.avi").read_bytes()
    (folder / "z.avi").write_bytes(whole[: len(whole) // 2])
    (folder / "3.png").write_bytes(b"no picture")
    assert spread(folder, tmp_path / "none.png", "rtsp://host/stream") == EXIT_NO_INPUT
    address, picture, clip, missing = spread.complaints
    assert "edge-tools: rtsp://host/stream: an address; download it first" in address
    assert picture.startswith(f"edge-tools: {folder}/3.png: not an image")
    assert f"{folder}/z.avi: the video ends after" in clip
    assert f"{tmp_path}/none.png: no such file" in missing
    assert len(spread.entries) == 5
    (folder / "z.avi").write_bytes(whole)
    save(folder / "3.png", street())
    assert spread(folder) == EXIT_OK
    assert "5 files are done, 2 to do" in spread.complaints[0]
    assert len(spread.entries) == 6 + FRAMES


def test_second_run_adds_only_what_is_new(tmp_path: Path, spread: Spread) -> None:
    folder = mixed_folder(tmp_path / "in")
    save(folder / "deeper" / "left_out.png", street())
    spread.output.touch()  # as mktemp does
    assert spread(folder) == EXIT_OK
    before = spread.output.read_bytes()
    assert spread(folder) == EXIT_OK
    assert spread.output.read_bytes() == before
    assert spread(folder, save(tmp_path / "new.png", street())) == EXIT_OK
    assert "7 files are done, 1 to do" in spread.complaints[-1]
    assert spread.summary == f"{spread.output}: 1 files done now, 8 in all\n"
    assert spread.output.read_bytes().startswith(before)
    assert len(spread.entries) == 6 + FRAMES + 1
    assert not list(tmp_path.glob(".*"))


def test_output_that_a_kill_cut_anywhere_is_completed(tmp_path: Path, spread: Spread) -> None:
    folder = mixed_folder(tmp_path / "in", pictures=2)
    assert spread(folder) == EXIT_OK
    content = spread.output.read_bytes()
    lengths = [len(line) for line in content.splitlines(keepends=True)]
    ends = [sum(lengths[:count]) for count in range(len(lengths))]
    for size in (*ends, *(end + 9 for end in ends)):
        spread.output.write_bytes(content[:size])
        assert spread(folder) == EXIT_OK
        assert spread.output.read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_run_loses_and_doubles_nothing(
    tmp_path: Path, spread: Spread, infer: Infer, number: signal.Signals
) -> None:
    folder = linked_folder(tmp_path / "in", 400)
    video(folder / "0050.avi", 30)
    _, document = infer(folder)
    with spread.start(folder, "--workers", "2") as process:
        wait_until(lambda: spread.lines > 20 or process.poll() is not None, 60)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    assert 20 < spread.lines < len(document)
    if number != signal.SIGKILL:
        assert process.returncode == EXIT_FAILURE
        assert complaint == "edge-tools: stopped; what was saved so far is kept\n"
    assert spread(folder, workers=2) == EXIT_OK
    assert by_file(spread.entries) == by_file(document)


def deadly(_task: object, _models: str, file: command.File) -> str:
    if file.path.name == "3.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return json.dumps({"file": file.name}) + "\n"


def test_file_that_kills_its_worker_is_named_and_the_others_are_done(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked_folder(tmp_path / "in", 8)
    (folder / "0003.png").rename(folder / "3.png")
    monkeypatch.setattr(command, "lines_of", deadly)
    assert spread(folder, "rtsp://host/stream", workers=2) == EXIT_UNAVAILABLE
    assert spread.complaints[1:] == [f"edge-tools: {folder}/3.png: its worker process died"]
    assert spread.lines == 7


@pytest.mark.parametrize(
    ("error", "code", "complaint"),
    [
        (CameraError("a.png: hangs"), EXIT_NO_INPUT, "edge-tools: a.png: hangs"),
        (ModelError("another model"), EXIT_CONFIG, "edge-tools: another model"),
        (ModuleNotFoundError(name="cv2"), EXIT_CONFIG, "edge-tools infer: needs cv2; "),
    ],
)
def test_fault_of_a_worker_ends_the_run_and_that_of_a_file_does_not(
    tmp_path: Path,
    spread: Spread,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    complaint: str,
) -> None:
    def fail(*_: object, **_options: object) -> NoReturn:
        raise error

    monkeypatch.setattr(command, "pictures", fail)
    assert spread(save(tmp_path / "a.png", street()), "rtsp://host/stream") == code
    address, other = spread.complaints
    assert address.startswith("edge-tools: rtsp://host/stream: an address")
    assert other.startswith(complaint)


def test_file_that_fails_in_an_unforeseen_way_is_named(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "pictures", None)
    picture = save(tmp_path / "a.png", street())
    assert spread(picture) == EXIT_FAILURE
    assert spread.complaints[0].startswith(f"edge-tools: {picture}: TypeError(")


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--min-score", "0.5"), r"min_score 0.25, now 0.5"),
        (("--no-color",), "models tiny-detect 0.0.1 "),
        (("--color-model", CLASS_COLOR), "models tiny-detect 0.0.1 "),
    ],
)
def test_other_options_than_those_of_the_output_are_refused(
    tmp_path: Path, spread: Spread, options: tuple[str, ...], difference: str
) -> None:
    picture = save(tmp_path / "a.png", street())
    assert spread(picture) == EXIT_OK
    before = spread.output.read_bytes()
    assert spread(picture, *options) == EXIT_USAGE
    (complaint,) = spread.complaints
    assert complaint.startswith(f"edge-tools: {spread.output} has other settings ({difference}")
    assert complaint.endswith("; give those, or name another file with --output")
    assert spread.output.read_bytes() == before
    spread.output.unlink()  # to begin anew
    assert spread(picture, *options) == EXIT_OK


@pytest.mark.parametrize("part", ["labels", "decoder", "input", "sha256"])
def test_model_that_replaced_another_is_refused(tmp_path: Path, spread: Spread, part: str) -> None:
    picture = save(tmp_path / "a.png", street())
    model = detect_folder(tmp_path)
    assert spread(picture, "--model", model) == EXIT_OK
    known = manifest.read(model)
    content = (model / known.file).read_bytes() + b"\0"
    changes = {
        "labels": ("car", "person"),
        "decoder": msgspec.structs.replace(known.decoder, nms_iou=0.5),
        "input": msgspec.structs.replace(known.input, pad_value=0),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    change_manifest(model, **{part: changes[part]})
    if part == "sha256":
        (model / known.file).write_bytes(content)
    assert spread(picture, "--model", model) == EXIT_USAGE
    assert "(models tiny-detect 0.0.1 " in spread.complaints[0]


def test_further_objects_may_be_given_but_none_for_what_is_done(
    tmp_path: Path, spread: Spread
) -> None:
    crop, other = (
        save(tmp_path / name, np.full((40, 20, 3), RED, np.uint8)) for name in ("a.png", "b.png")
    )
    objects = tmp_path / "objects.json"
    options = ("--objects", objects, "--color-model", CLASS_COLOR)
    objects.write_text(json.dumps({"a.png": "dog"}))
    assert spread(crop, *options, task="color") == EXIT_OK
    objects.write_text(json.dumps({"a.png": "dog", "b.png": "car"}))
    assert spread(other, *options, task="color") == EXIT_OK
    assert len(spread.entries) == 2
    for changed in ({"a.png": "car", "b.png": "car"}, {"b.png": "car"}, {}):
        objects.write_text(json.dumps(changed))
        assert spread(crop, other, *options, task="color") == EXIT_USAGE
        fault = f"{crop} is done with the object dog, now {changed.get('a.png')}; give the same"
        assert fault in spread.complaints[-1]
    assert len(spread.entries) == 2


def test_worker_with_another_model_ends_the_run(tmp_path: Path) -> None:
    """As on a Dask worker that has another one, or that still has the one before."""
    picture = save(tmp_path / "a.png", street())
    task = DetectTask(detect_folder(tmp_path), color_folder(tmp_path), 0.25)
    file = command.File(picture, "a.png", None)
    models = command._models(task)
    assert json.loads(command.lines_of(task, models, file))["file"] == "a.png"
    change_manifest(task.model, labels=("car", "person"))
    other = command._models(task)
    assert '"label": "car"' in command.lines_of(task, other, file)
    with pytest.raises(ModelError, match=f"this run uses {models}, but here are now {other}"):
        command.lines_of(task, models, file)


def test_broken_model_is_told_once_and_leaves_no_output(tmp_path: Path, spread: Spread) -> None:
    folder = mixed_folder(tmp_path / "in")
    assert spread(folder, "--model", COLOR) == EXIT_CONFIG
    assert len(spread.complaints) == 1
    assert not spread.output.exists()


def test_two_runs_do_not_write_one_output(tmp_path: Path, spread: Spread) -> None:
    picture = save(tmp_path / "a.png", street())
    settings = infer_output.Settings(task="", models="", min_score=None, objects={}, folder=None)
    with infer_output.opened(spread.output, settings):
        assert spread(picture) == EXIT_FAILURE
    assert "another edge-tools writes to it" in spread.complaints[0]


def test_file_of_another_program_is_left_alone(tmp_path: Path, spread: Spread) -> None:
    picture = save(tmp_path / "a.png", street())
    spread.output.write_text("my notes\n")
    assert spread(picture) == EXIT_USAGE
    assert "there already, without found.jsonl.settings beside it" in spread.complaints[0]
    assert spread.output.read_text() == "my notes\n"
    (tmp_path / "found.jsonl.settings").write_text("{")
    assert spread(picture) == EXIT_USAGE
    assert "found.jsonl.settings: Input data was truncated" in spread.complaints[0]
    spread.output = tmp_path
    assert spread(picture) == EXIT_FAILURE
    assert "not a plain file; name another file with --output" in spread.complaints[0]


def test_damaged_line_is_named(tmp_path: Path, spread: Spread) -> None:
    folder = mixed_folder(tmp_path / "in")
    assert spread(folder) == EXIT_OK
    lines = spread.output.read_bytes().splitlines(keepends=True)
    spread.output.write_bytes(b"".join([lines[0], b'{"file"\n', *lines[2:]]))
    assert spread(folder) == EXIT_NO_INPUT
    assert f"{spread.output}: line 2 is damaged" in spread.complaints[0]
    spread.output.write_bytes(b"".join([lines[0], *lines[2:]]))
    assert spread(folder) == EXIT_OK
    assert len(spread.entries) == 6 + FRAMES


def test_full_disk_keeps_whole_files_and_a_later_run_adds_the_rest(
    tmp_path: Path, spread: Spread, infer: Infer
) -> None:
    folder = mixed_folder(tmp_path / "in")
    _, document = infer(folder)
    for room_bytes in (2000, 100):  # the second run cannot even begin
        with full_disk(room_bytes):
            assert spread(folder) == EXIT_FAILURE
        assert spread.complaints[-1:] == [
            f"edge-tools: {spread.output}: File too large; make room and start again"
        ]
        assert 0 < len(spread.entries) < 6
    assert spread(folder) == EXIT_OK
    assert by_file(spread.entries) == by_file(document)


@pytest.mark.slow
def test_dask_cluster_gives_the_same_entries(
    tmp_path: Path,
    spread: Spread,
    infer: Infer,
    tiny_models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("distributed")
    folder = mixed_folder(tmp_path / "in", pictures=60)
    (folder / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    _, document = infer("in")
    models = os.path.relpath(tiny_models_dir, tmp_path)  # its workers run in another folder
    with running(tmp_path, workers=1) as (address, _):
        for expected in ("broken.png: not an image", "61 files are done, 1 to do"):
            process = spread.start("in", "--models-dir", models, "--dask", address, cwd=tmp_path)
            _, complaints = process.communicate(timeout=120)
            assert process.returncode == EXIT_NO_INPUT
            assert expected in complaints
    assert by_file(spread.entries) == by_file(document)


def test_shipped_models_give_the_entries_of_edge_infer(tmp_path: Path, infer: Infer) -> None:
    output = tmp_path / "found.jsonl"
    golden = next(ROOT.glob("models/yolox-nano-352/golden.*"))
    _, document = infer(golden, "--model", "yolox-nano-352", "--color-model", "color-64")
    options = ["--color-model", "color-64", "--output", str(output)]
    assert main(["infer", str(golden), *options]) == EXIT_OK
    assert [json.loads(line) for line in output.read_text().splitlines()] == document
