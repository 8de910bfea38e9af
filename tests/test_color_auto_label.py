from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import pytest

pytest.importorskip("rich", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("matplotlib", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("sklearn", reason="pip install 'edge-camera[tools]'")

from edge import durable
from edge.errors import EXIT_FAILURE, EdgeError, InputError, ModelError
from scenes import overlap, truth, write_boxes, write_scenes
from tools import lock
from tools.cli import main
from tools.color import agreement, auto_label
from tools.color.agreement import Pair
from tools.color.data.label_file import LabelFile, opened
from tools.color.data.labels import LABELS
from tools.color.data.objects import LABELS_NAME, Row, read_objects
from tools.parallel import Done
from waiting import wait_until

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "color-64"


def data_set(folder: Path, colors: tuple[str, ...] = ("red", "blue", "yellow", "white")) -> Path:
    """Write scenes and a COCO file with the box of each object; return the file."""
    write_scenes(folder, colors)
    names = [f"{number}-{color}.png" for number, color in enumerate(colors)]
    return write_boxes(folder, names)


def label(*arguments: object) -> int:
    return main(["label", "color", *map(str, arguments)])


def automatic(boxes: Path) -> list[dict[str, Any]]:
    path = auto_label.automatic_path(boxes)
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("named", ["", "train.json"])
def test_objects_of_an_imported_set_are_found_by_folder_and_by_file(
    tmp_path: Path, named: str
) -> None:
    imported = tmp_path / "own"
    arguments = ("--format", "coco", "--output", imported)
    assert main(["data", "import", str(data_set(tmp_path)), *map(str, arguments)]) == 0
    (imported / "annotations.json").rename(imported / "train.json")
    found = read_objects(imported / named)
    assert len(found) == 4
    assert all(one.file.is_file() and one.box_px for one in found)


def test_model_that_names_no_colors_is_told_once_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path)
    assert label(boxes, "--model", ROOT / "models" / "yolox-nano-288") == ModelError.exit_code
    assert capsys.readouterr().err.count("its task is detect, not color") == 1
    assert not auto_label.automatic_path(boxes).exists()


def test_every_object_gets_mask_shares_and_label(tmp_path: Path) -> None:
    boxes = data_set(tmp_path)
    assert label(boxes, "--workers", 2) == 0
    rows = sorted(automatic(boxes), key=lambda row: row["image"])
    assert [row["image"] for row in rows] == [
        f"{n}-{c}.png" for n, c in enumerate(("red", "blue", "yellow", "white"))
    ]
    for row in rows:
        assert row["by_1"].startswith(f"grabcut + {auto_label.DEFAULT_MODEL} ")
        assert row["cls"] == "car"
        assert sum(row["shares_1"].values()) == pytest.approx(1, abs=0.02)
        drawn = np.zeros(truth().shape, np.uint8)
        for outline in row["outline_1"]:
            cv2.fillPoly(drawn, [np.array(outline).round().astype(np.int32)], 1)
        assert overlap(drawn > 0) > 0.9
    assert rows[0]["label_1"] == "red"
    assert rows[1]["label_1"] == "blue"


def test_second_run_labels_only_new_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path)
    assert label(boxes, "--workers", 1, "--limit", 3) == 0
    assert "3 labelled now, 3 in all" in capsys.readouterr().out
    path = auto_label.automatic_path(boxes)
    rows = automatic(boxes)
    rows[0]["label_1"] = "pink"
    path.write_text(json.dumps(rows))
    assert label(boxes, "--workers", 1) == 0
    assert "1 labelled now, 4 in all" in capsys.readouterr().out
    assert automatic(boxes)[0]["label_1"] == "pink"
    rows[0]["by_1"] = "grabcut + another model"
    path.write_text(json.dumps(rows))
    assert label(boxes, "--workers", 1) == 0
    assert "2 labelled now, 4 in all" in capsys.readouterr().out


def test_a_model_made_anew_labels_again(tmp_path: Path) -> None:
    model = tmp_path / "own"
    shutil.copytree(MODEL, model)
    first = auto_label.author_of(model)
    content = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(content | {"sha256": "0" * 64}))
    assert auto_label.author_of(model) != first


def test_boxes_with_fractions_find_their_labels_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path)
    content = json.loads(boxes.read_text())
    for item in content["annotations"]:
        item["bbox"] = [12.52, 13.48, 40.46, 50.54]
    boxes.write_text(json.dumps(content))
    assert label(boxes, "--workers", 1) == 0
    capsys.readouterr()
    assert label(boxes, "--workers", 1) == 0
    assert "0 labelled now, 4 in all" in capsys.readouterr().out


def test_broken_picture_is_one_line_and_does_not_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path)
    (tmp_path / "1-blue.png").write_bytes(b"no picture")
    assert label(boxes, "--workers", 1) == 66
    out = capsys.readouterr().out
    assert "1-blue.png: cannot be read as a picture" in out
    assert "3 labelled now" in out


def test_workers_end_before_the_label_file_is_given_up_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = data_set(tmp_path)
    output = auto_label.automatic_path(boxes)
    had_lock: list[bool] = []

    def run_tasks(*_: object, **__: object) -> Iterator[Done[auto_label.Task, Row]]:
        try:
            for index, one in enumerate(read_objects(boxes)):
                monkeypatch.setattr(durable, "replace", refused)  # from the first result on
                yield Done(index, auto_label.Task(one, MODEL, ""), one.row())
        finally:
            had_lock.append(output.with_name(f".{output.name}.lock").exists())

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))

    monkeypatch.setattr(auto_label, "run_tasks", run_tasks)
    monkeypatch.setattr(auto_label, "SAVE_EVERY_S", -1.0)
    assert label(boxes) == EXIT_FAILURE
    assert had_lock == [True]


def test_killed_run_resumes_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path, ("red", "blue", "yellow", "white") * 12)
    code = (
        "import sys; from tools import cli; from tools.color import auto_label; "
        "auto_label.SAVE_EVERY_S = 0.05; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "label", "color", str(boxes), "--workers", "1"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE) as run:
        path = auto_label.automatic_path(boxes)
        wait_until(lambda: path.exists() and len(json.loads(path.read_text())) >= 3, 60)
        run.send_signal(signal.SIGKILL)
    before = len(automatic(boxes))
    assert 3 <= before < 48
    assert label(boxes, "--workers", 1, "--limit", before + 2) == 0
    assert f"2 labelled now, {before + 2} in all" in capsys.readouterr().out


def test_agreement_with_people_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path)
    people = LabelFile(tmp_path / f"boxes.{LABELS_NAME}")
    for one, name in zip(read_objects(boxes), ("red", "green", "yellow", "white"), strict=True):
        both = {"label_1": name, "sure_1": True, "label_2": name, "sure_2": True}
        people.put(one.key, one.row() | both | {"agreed": name})
    report, plot = tmp_path / "agreement.json", tmp_path / "agreement.png"
    assert label(boxes, "--workers", 1, "--json", report, "--plot", plot) == 0
    assert "Agreement with people" in capsys.readouterr().out
    found = json.loads(report.read_text())
    labels = {row["image"]: row["label_1"] for row in automatic(boxes)}
    same = sum(labels[f"{n}-{c}.png"] == c for n, c in ((0, "red"), (2, "yellow"), (3, "white")))
    assert found["all"]["objects"] == 4
    assert found["all"]["share"] == same / 4
    assert found["two people"]["share"] == 1
    green, blue = (LABELS.index(name) for name in ("green", "blue"))
    assert found["confusion"][green][blue] == 1
    assert cv2.imread(str(plot)) is not None


def test_agreement_without_labels_of_people_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes, file = data_set(tmp_path), tmp_path / "agreement.json"
    assert label(boxes, "--workers", 1, "--json", file) == 66
    (line,) = capsys.readouterr().err.splitlines()
    assert "no label of a person to compare with; name a file with --human" in line
    assert len(automatic(boxes)) == 4


def test_annotators_without_certainty_count_as_sure(tmp_path: Path) -> None:
    (one,) = read_objects(data_set(tmp_path, ("red",)))
    people = LabelFile(tmp_path / "people.json")
    people.put(one.key, one.row() | {"label_1": "red", "label_2": "blue", "agreed": None})
    assert auto_label.people([one], people) == [Pair("red", "blue", (True, True))]


def test_threads_share_no_interpreter(tmp_path: Path) -> None:
    objects = read_objects(data_set(tmp_path))
    tasks = [auto_label.Task(one, MODEL, "") for one in objects] * 2
    alone = [auto_label.label_one(task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(auto_label.label_one, tasks)) == alone


def test_order_of_the_file_is_that_of_the_data_set_however_workers_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path)

    def run_tasks(function: Any, tasks: list[auto_label.Task], **_: object) -> Iterator[Any]:
        for index in (2, 3, 0, 1):
            task = tasks[index]
            is_broken = index in (0, 3)
            error = InputError("broken") if is_broken else None
            row = None if is_broken else function(task)
            yield Done(index, task, row, error)

    monkeypatch.setattr(auto_label, "run_tasks", run_tasks)
    assert label(boxes) == 66
    assert [row["image"] for row in automatic(boxes)] == ["1-blue.png", "2-yellow.png"]
    told = [line for line in capsys.readouterr().out.splitlines() if "broken" in line]
    assert told == ["0-red.png: broken", "3-white.png: broken"]


def test_unwritable_output_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path, ("red",))
    assert label(boxes, "--output", boxes / "labels.json") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--output" in line


def test_file_that_is_not_a_model_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = data_set(tmp_path, ("red",))
    model = tmp_path / "model"
    model.mkdir()
    for make, message in (
        (lambda: None, "no manifest.json"),
        (lambda: (model / "manifest.json").write_text("{}"), "manifest.json is not valid"),
    ):
        make()
        assert label(boxes, "--model", model) == 78
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_kappa_of_known_answers() -> None:
    # Cohen's own kind of table: 20 both yes, 5 and 10 apart, 15 both no: .7 observed, .5 by chance.
    answers = [("red", "red")] * 20 + [("red", "blue")] * 5
    answers += [("blue", "red")] * 10 + [("blue", "blue")] * 15
    found = agreement.agreement([Pair(one, other, (True, False)) for one, other in answers])
    assert (found.objects, found.share) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    same = agreement.agreement([Pair("red", "red", (True, True))] * 3)
    assert (same.share, same.kappa) == (1.0, None)


def test_groups_split_by_who_is_sure() -> None:
    pairs = [
        Pair("red", "red", (True, True)),
        Pair("red", "blue", (True, False)),
        Pair("mixed", "blue", (False, False)),
    ]
    found = agreement.by_group(pairs)
    assert {name: one.objects for name, one in found.items()} == {
        "all": 3,
        "one basic term": 2,
        "person sure": 2,
        "person not sure": 1,
        "machine sure": 1,
        "machine not sure": 2,
        "both sure": 1,
    }


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"label_1": "red", "sure_1": False}, ("red", False)),
        ({"label_2": "red", "sure_2": True}, ("red", True)),
        ({"label_1": "red", "label_2": "red", "sure_1": True, "sure_2": False}, ("red", False)),
        ({"label_1": "red", "label_2": "blue"}, None),
        ({}, None),
    ],
)
def test_people_answer_where_they_agree(
    row: dict[str, Any], answer: tuple[str, bool] | None
) -> None:
    assert agreement.human_answer(row) == answer


def test_lock_removed_while_being_acquired_is_acquired_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels.json"
    flock = lock.fcntl.flock

    def ending(file: TextIO, how: int) -> None:
        """Another command ends between our opening the lock and taking it."""
        monkeypatch.setattr(lock.fcntl, "flock", flock)
        Path(file.name).unlink()
        flock(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", ending)
    with (
        opened(labels, "--output"),
        pytest.raises(EdgeError, match="another edge-tools writes to it"),
        opened(labels, "--output"),
    ):
        pytest.fail("two commands have the labels")
    assert list(tmp_path.iterdir()) == [labels]


def test_folder_of_the_output_is_created(tmp_path: Path) -> None:
    labels = tmp_path / "runs" / "new" / "labels.json"
    with opened(labels, "--output") as file:
        assert file.rows == {}
    assert labels.read_text() == "[\n\n]\n"
