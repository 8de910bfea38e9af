"""The page for labelling colors: the real command and real requests."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("litestar", reason="pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="pip install 'edge-camera[tools]'")

from annotating import Annotate, filled, rows
from edge.errors import EXIT_FAILURE, InputError
from edge.values import Box
from scenes import BOX_PX, overlap, write_boxes, write_scenes
from tools.cli import main
from tools.color.data import dataset
from tools.color.data.objects import LABELS_NAME, read_objects

httpx = pytest.importorskip("httpx", reason="pip install 'edge-camera[tools]'")

CENTER = {"x": 130 / 240, "y": 90 / 180}
RED = {"label": "red", "colors": ["red"], "sure": True, "marks": {"clicks": [CENTER], "grow": 0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_scenes(tmp_path_factory.mktemp("served") / "pictures")
    (folder / "9-broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Annotate]:
    """The command on three scenes and a broken file; tests leave no label behind."""
    with Annotate(folder) as command:
        yield command


def test_click_gives_mask_and_colors(served: Annotate) -> None:
    before = served.ask("/api/objects/0").json()
    assert before["suggestion"]["outlines"] == []
    found = served.ask("/api/objects/0/mask", "POST", json={"clicks": [CENTER]}).json()
    scaled = [[[x * 240, y * 180] for x, y in outline] for outline in found["outlines"]]
    assert overlap(filled(scaled)) > 0.9
    assert found["surfaces"][0]["name"] == "red"
    assert found["shares"]["red"] > 0.2


def test_picture_is_a_jpeg_of_the_object(served: Annotate) -> None:
    answer = served.ask("/api/objects/1/picture.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    bgr = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    assert bgr.shape == (180, 240, 3)


def test_broken_picture_is_named_and_the_others_still_work(served: Annotate) -> None:
    answer = served.ask("/api/objects/3")
    assert answer.status_code == 422
    assert "9-broken.png" in answer.json()["detail"]
    assert served.ask("/api/objects/2").status_code == 200


@pytest.mark.parametrize(
    ("path", "method", "body", "code"),
    [
        ("/api/objects/99", "GET", None, 404),
        ("/api/objects/0/label", "PUT", RED | {"label": "mauve"}, 400),
        ("/api/objects/0/label", "PUT", RED | {"colors": ["blue"]}, 400),
        ("/api/objects/0/label", "PUT", RED | {"more": 1}, 400),
        ("/api/objects/0/mask", "POST", {"clicks": [], "grow": 5000}, 400),
        ("/api/objects/0/mask", "POST", {"clicks": [{"x": "left", "y": 0}]}, 400),
        ("/../../etc/passwd", "GET", None, 404),
    ],
)
def test_invalid_request_is_refused_and_nothing_saved(
    served: Annotate, folder: Path, path: str, method: str, body: dict[str, Any], code: int
) -> None:
    answer = served.ask(path, method, json=body)
    assert answer.status_code == code
    assert answer.json()["detail"]
    assert rows(folder) == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "192.168.0.1:8765"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
    ],
)
def test_other_origins_can_neither_read_nor_label(
    served: Annotate, folder: Path, headers: dict[str, str], code: int
) -> None:
    answer = served.ask("/api/objects/0/label", "PUT", json=RED, headers=headers)
    assert answer.status_code == code
    assert rows(folder) == []
    plain = served.ask("/").headers
    assert "frame-ancestors 'none'" in plain["content-security-policy"]
    assert "access-control-allow-origin" not in plain


def test_page_listens_on_the_loopback_only(served: Annotate) -> None:
    port = int(served.url.rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{port:04X} 00000000:0000 0A" in listening
    assert f"00000000:{port:04X} 00000000:0000 0A" not in listening


def test_page_loads_nothing_from_other_hosts(served: Annotate) -> None:
    text = served.ask("/").text
    assert "innerHTML" not in text
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_every_acknowledged_answer_survives_kill_9(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red", "blue", "yellow", "white") * 3)
    with Annotate(folder) as command:
        for number in range(9):
            answer = command.ask(f"/api/objects/{number}/label", "PUT", json=RED)
            assert answer.json()["labelled"] == number + 1
        command.process.send_signal(signal.SIGKILL)
    assert [row["label_1"] for row in rows(folder)] == ["red"] * 9
    (folder / f".{LABELS_NAME}.part").write_text("[{")  # as a kill in mid-write leaves
    with Annotate(folder) as command:
        assert command.first.startswith("9 of 12 labelled")
        assert command.ask("/api/progress").json()["next"] == 9


def test_answer_to_an_older_state_is_refused(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures")
    blue = RED | {"label": "blue", "colors": ["blue"]}

    def answer(command: Annotate, body: dict[str, Any]) -> int:
        code: int = command.ask("/api/objects/0/label", "PUT", json=body).status_code
        return code

    with Annotate(folder) as first:
        assert answer(first, RED) == 200
        assert answer(first, blue) == 409  # a tab that still shows it without an answer
        seen = first.ask("/api/objects/0").json()
        assert seen["saved"]["label"] == "red"
    with Annotate(folder) as again:  # an open tab outlives the command
        blue["revision"] = seen["revision"]
        assert answer(again, blue) == 200
        refused = again.ask("/api/objects/0/label", "PUT", json=blue)
        assert (refused.status_code, "in another tab" in refused.text) == (409, True)
        again.ask("/api/undo", "POST")
        assert answer(again, blue) == 200
    assert [row["label_1"] for row in rows(folder)] == ["blue"]


def test_second_labeller_starts_without_labels_and_agreement_is_recorded(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures")
    blue = RED | {"label": "blue", "colors": ["blue", "white"], "sure": False}
    with Annotate(folder) as first:
        for number in (0, 1):
            first.ask(f"/api/objects/{number}/label", "PUT", json=RED)
    with Annotate(folder, "--labeller", "2") as second:
        assert second.ask("/api/progress").json()["labelled"] == 0
        assert second.ask("/api/objects/0").json()["saved"] is None
        second.ask("/api/objects/0/label", "PUT", json=RED)
        second.ask("/api/objects/1/label", "PUT", json=blue)
    same, other = rows(folder)
    assert same["agreed"] == "red"
    assert other["agreed"] is None
    assert (other["label_1"], other["label_2"], other["colors_2"]) == (
        "red",
        "blue",
        ["blue", "white"],
    )


def test_answer_that_cannot_be_saved_is_reported_and_can_be_repeated(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures")
    with Annotate(folder) as command:
        (folder / f".{LABELS_NAME}.part").mkdir()
        answer = command.ask("/api/objects/0/label", "PUT", json=RED)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("not saved: Is a directory; mend that")
        (folder / f".{LABELS_NAME}.part").rmdir()
        assert command.ask("/api/progress").json()["labelled"] == 0
        assert command.ask("/api/objects/0/label", "PUT", json=RED).json()["labelled"] == 1
        (folder / f".{LABELS_NAME}.part").mkdir()
        assert command.ask("/api/undo", "POST").status_code == 422
        (folder / f".{LABELS_NAME}.part").rmdir()
        assert command.ask("/api/undo", "POST").json() == {"index": 0}
    assert rows(folder) == []


def test_change_by_another_program_is_not_overwritten(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures")
    with Annotate(folder) as command:
        command.ask("/api/objects/0/label", "PUT", json=RED)
        edited = json.dumps([rows(folder)[0] | {"label_1": "pink", "colors_1": ["pink"]}])
        (folder / LABELS_NAME).write_text(edited)
        for path, method in (("/api/objects/1/label", "PUT"), ("/api/undo", "POST")):
            answer = command.ask(path, method, json=RED)
            assert answer.status_code == 422
            assert f"not saved: another program changed {folder / LABELS_NAME}" in answer.text
        assert command.ask("/api/progress").json()["labelled"] == 1
        assert (folder / LABELS_NAME).read_text() == edited
    with Annotate(folder) as again:
        again.ask("/api/objects/1/label", "PUT", json=RED)
    assert [row["label_1"] for row in rows(folder)] == ["pink", "red"]


@pytest.mark.parametrize(
    ("edited", "fault"),
    [
        ({"label_1": None}, "Expected `str`, got `null` - at `$.label_1`"),
        ({"label_2": "mauve"}, "`$.label_2`"),
        ({"label_1": "red", "colors_1": "red"}, "`$.colors_1`"),
        ({"label_1": "red", "colors_1": ["mixed"]}, "`$.colors_1[0]`"),
        ({"label_1": "red", "outline_1": [[1, 2]]}, "`$.outline_1[0][0]`"),
        ({"label_1": "red", "outline_1": [[]]}, "`$.outline_1[0]`"),
    ],
)
def test_row_edited_by_hand_that_is_no_answer_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edited: dict[str, Any], fault: str
) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red",))
    row = {"image": "0-red.png", "bbox": None, "cls": ""}
    (folder / LABELS_NAME).write_text(json.dumps([row | edited]))
    for options in ((), ("--export", str(tmp_path / "data"))):
        assert main(["annotate", "color", str(folder), *options]) == 66
        (line,) = capsys.readouterr().err.splitlines()
        assert "a row of 0-red.png" in line
        assert fault in line


def test_second_command_on_the_same_labels_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_scenes(tmp_path / "pictures")
    words = ["annotate", "color", str(folder), "--labeller", "2", "--port", "0"]
    with Annotate(folder) as first:
        assert main(words) == EXIT_FAILURE
        assert "end that, or name another file with --labels" in capsys.readouterr().err
        assert first.ask("/api/objects/0/label", "PUT", json=RED).status_code == 200
        first.process.send_signal(signal.SIGTERM)
        first.process.wait(timeout=30)
    assert sorted(file.name for file in folder.iterdir() if file.suffix != ".png") == [LABELS_NAME]
    with Annotate(folder, "--labeller", "2") as second:
        second.ask("/api/objects/0/label", "PUT", json=RED)
    assert [row["agreed"] for row in rows(folder)] == ["red"]


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red",))
    write_scenes(folder / ".thumbnails", ("blue",))
    (folder / "._0-red.png").write_bytes(b"of macOS")
    (folder / "album.jpg").mkdir()
    assert [one.image for one in read_objects(folder)] == ["0-red.png"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_it_cleanly(tmp_path: Path, number: int) -> None:
    with Annotate(write_scenes(tmp_path / "pictures")) as command:
        command.process.send_signal(number)
        assert command.process.wait(timeout=30) == 0
        assert command.process.stderr is not None
        assert command.process.stderr.read() == ""


def test_training_and_evaluation_read_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red", "blue", "yellow", "white") * 2)
    boxes = write_boxes(folder, sorted(file.name for file in folder.glob("*.png")))
    with Annotate(boxes) as command:
        assert command.ask("/api/objects/0").json()["cls"] == "car"
        for number in range(7):
            command.ask(f"/api/objects/{number}/label", "PUT", json=RED)
        unclear = RED | {"label": "unclear", "colors": []}
        command.ask("/api/objects/7/label", "PUT", json=unclear)
    out = tmp_path / "data"
    options = ["--export", str(out), "--val-share", "0.5"]
    assert main(["annotate", "color", str(boxes), *options]) == 0
    assert "train" in capsys.readouterr().out
    training = dataset.training_items(out)
    validation = dataset.validation_items(out)
    assert min(len(training), len(validation)) > 0
    assert len(list(out.glob("detection/*/*.png"))) == 8  # all pictures, for `color failures`
    assert len(training) + len(validation) == 7  # the unclear one teaches nothing
    assert {item.label for item in (*training, *validation)} == {"red"}
    for item, (crop, _) in zip(training, dataset.read_crops(training), strict=True):
        assert item.box_px == tuple(BOX_PX)
        assert crop.shape[:2] == (80, 110)
    assert main(["annotate", "color", str(boxes), *options]) == 0  # again: the same
    assert len(dataset.training_items(out)) == len(training)


def test_clicked_object_is_exported_with_the_box_around_it(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red",))
    with Annotate(folder) as command:
        command.ask("/api/objects/0/label", "PUT", json=RED)
    assert rows(folder)[0]["bbox"] is None  # the picture is the object, as far as the file knows
    out = tmp_path / "data"
    assert main(["annotate", "color", str(folder), "--export", str(out), "--val-share", "0"]) == 0
    (item,) = dataset.training_items(out)
    assert item.object_class is None  # a picture has none; "" had a nameless row of its own
    assert item.box_px is not None
    assert Box(*item.box_px).iou(BOX_PX) > 0.9


def test_unwritable_crop_aborts_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red",))
    with Annotate(folder) as command:
        command.ask("/api/objects/0/label", "PUT", json=RED)
    out = tmp_path / "data"
    (out / "scene_color" / "train" / "0-red_00000.jpg").mkdir(parents=True)
    assert main(["annotate", "color", str(folder), "--export", str(out), "--val-share", "0"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "0-red_00000.jpg" in line
    assert not (out / "scene_color" / "labels.json").exists()


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_text("{"), "not JSON"),
        (lambda path: path.write_text("{}"), "not COCO JSON"),
        (lambda path: path.write_text("[{}]"), "row 1 has no 'file_name'; add it"),
        (lambda path: path.write_text("[1]"), "row 1 is not a labelled object"),
        (lambda path: path.mkdir(), "no object to label"),
    ],
)
def test_invalid_data_set_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, fault: str
) -> None:
    make(tmp_path / "set")
    assert main(["annotate", "color", str(tmp_path / "set")]) == 66
    (line,) = capsys.readouterr().err.splitlines()
    assert fault in line


def test_taken_port_and_unwritable_labels_are_one_line_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_scenes(tmp_path / "pictures", ("red",))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["annotate", "color", str(folder), "--port", port]) == 69
    assert "choose another with --port" in capsys.readouterr().err
    nowhere = str(folder / "0-red.png" / "labels.json")
    assert main(["annotate", "color", str(folder), "--labels", nowhere]) == 1
    assert "--labels" in capsys.readouterr().err
    (folder / LABELS_NAME).write_text("{}")
    assert main(["annotate", "color", str(folder)]) == 66
    assert "not a list of color labels" in capsys.readouterr().err
    (folder / LABELS_NAME).write_text('[{"image": "0-red.png", "bbox": "abcd"}]')
    assert main(["annotate", "color", str(folder)]) == 66
    assert "a row whose bbox is not x, y, width, height" in capsys.readouterr().err


def test_split_option_is_refused_for_data_without_splits(tmp_path: Path) -> None:
    write_scenes(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} has no splits; leave out --split val"):
        read_objects(tmp_path, split="val")
    coco = tmp_path / "train.json"
    coco.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(InputError, match=f"{coco} has no splits; leave out --split val"):
        read_objects(coco, split="val")


def test_rows_of_the_data_folders_are_objects(tmp_path: Path) -> None:
    write_scenes(tmp_path / "train")
    row = {"image": "0-red.png", "bbox": [1, 2, 30, 40], "cls": "car", "split": "train"}
    human = {"label_1": "red", "sure_1": True, "label_2": "red", "sure_2": False, "agreed": "red"}
    (tmp_path / "labels.json").write_text(json.dumps([row | human | {"file_name": "0-red.png"}]))
    (crop,) = read_objects(tmp_path)
    assert (crop.file, crop.box_px) == (tmp_path / "train" / "0-red.png", None)
    with pytest.raises(InputError, match="no object of split 'val'; name another with --split"):
        read_objects(tmp_path, split="val")
    (whole,) = read_objects(tmp_path, tmp_path / "train", "train")
    assert (whole.file, whole.box_px, whole.cls) == (crop.file, (1, 2, 30, 40), "car")
    assert whole.human["agreed"] == "red"


def test_pictures_with_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(InputError, match=r"\.png: its name is not UTF-8; rename it"):
        read_objects(tmp_path)
