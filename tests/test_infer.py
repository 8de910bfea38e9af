"""`edge infer`: one JSON document; unreadable inputs are reported and the rest is processed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge import drawing, lookup
from edge.cli import main, progress
from edge.cli.album import Album
from edge.color import TERMS, ColorModel
from edge.errors import EXIT_CONFIG, EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE
from edge.inference.inputs import Picture
from edge.manifest import Decoder
from edge.values import ColorScore
from inferring import BLUE, CLIP, RED, ROOT, Infer, save, street, video
from models import CLASS_COLOR, COLOR, DETECT, color_folder, detect_folder


def test_document_has_the_promised_shape(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "street.png", street())
    code, document = infer(picture)
    assert code == EXIT_OK
    (entry,) = document
    assert list(entry) == ["file", "width", "height", "detections"]
    assert (entry["file"], entry["width"], entry["height"]) == (str(picture), 256, 256)
    person, car = sorted(entry["detections"], key=lambda found: found["label"], reverse=True)
    assert list(person) == ["label", "score", "box_px", "colors"]
    assert (person["label"], person["box_px"]) == ("person", [0.0, 64.0, 64.0, 64.0])
    assert (car["label"], car["box_px"]) == ("car", [192.0, 128.0, 64.0, 64.0])
    assert 0.5 < car["score"] < person["score"] <= 1
    assert person["colors"][0]["name"] == "red"
    assert car["colors"][0]["name"] == "blue"
    assert car["colors"][0]["rgb"] == list(BLUE[::-1])
    assert car["colors"][0]["lab"][2] < -20  # CIELAB's b: towards blue
    assert all({*color} >= {"name", "score"} for color in car["colors"])
    assert len(car["colors"]) == 1  # no other has enough of it


def test_color_task_gives_all_colors_best_first(tmp_path: Path, infer: Infer):
    crop = save(tmp_path / "crop.png", np.full((40, 20, 3), RED, np.uint8))
    code, document = infer(crop, task="color")
    assert code == EXIT_OK
    (entry,) = document
    assert list(entry) == ["file", "width", "height", "dominant", "colors"]
    scores = [color["score"] for color in entry["colors"]]
    assert {color["name"] for color in entry["colors"]} == set(TERMS)
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-3)
    assert entry["dominant"] == entry["colors"][0]["name"] == "red"


def test_color_task_calls_what_is_below_the_threshold_unknown(tmp_path: Path, infer: Infer):
    color_folder(tmp_path, "wary", decoder=Decoder(name="color_shares", unknown_below=1.0))
    crop = save(tmp_path / "crop.png", np.full((40, 20, 3), RED, np.uint8))
    code, document = infer(crop, "--color-model", tmp_path / "wary", task="color")
    assert code == EXIT_OK
    (entry,) = document
    assert entry["dominant"] == "unknown"
    assert entry["colors"][0]["name"] == "red"
    _, (entry,) = infer(save(tmp_path / "b.png", street()), "--color-model", tmp_path / "wary")
    for found in entry["detections"]:
        (color,) = found["colors"]
        assert (color["name"], list(color)) == ("unknown", ["name", "score"])


def test_video_has_one_entry_per_frame(tmp_path: Path, infer: Infer):
    code, document = infer(video(tmp_path / "clip.avi", 5))
    assert code == EXIT_OK
    assert [entry["frame"] for entry in document] == [1, 2, 3, 4, 5]
    assert all(len(entry["detections"]) == 2 for entry in document)


def test_min_score_and_no_color(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "street.png", street())
    assert infer(picture, "--min-score", "0.999")[1][0]["detections"] == []
    found = infer(picture, "--no-color")[1][0]["detections"]
    assert [one["colors"] for one in found] == [[], []]


def test_color_of_a_detection_depends_on_its_class(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "street.png", street())
    for label, color in (("person", "red"), ("dog", "brown")):
        model = detect_folder(tmp_path, label, labels=(label, "car"))
        _, (entry,) = infer(picture, "--model", model, "--color-model", CLASS_COLOR)
        colors = {one["label"]: one["colors"][0]["name"] for one in entry["detections"]}
        assert colors[label] == color


def test_folder_with_a_broken_image_is_processed_without_it(tmp_path: Path, infer: Infer):
    for name in ("a.png", "c.jpg"):
        save(tmp_path / name, street())
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    (tmp_path / "notes.txt").write_text("not looked at")
    code, document = infer(tmp_path)
    assert code == EXIT_NO_INPUT
    assert [Path(entry["file"]).name for entry in document] == ["a.png", "c.jpg"]
    (complaint,) = infer.complaints
    assert str(tmp_path / "b.png") in complaint


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path.with_name("nothing.png"), "no such file"),
        (lambda path: path.with_name("nothing.mp4"), "no such file"),
        (lambda path: path.with_name("n" * 300), "File name too long"),
        (lambda path: path.with_name("n" * 300 + ".mp4"), "File name too long"),
        (lambda path: path.write_bytes(b"") or path, "not an image"),
        (lambda path: path.write_text("text") and path, "not an image"),
        (lambda path: path.mkdir() or path, "no images or videos"),
    ],
    ids=[
        "missing image",
        "missing video",
        "long name",
        "long video",
        "empty file",
        "text",
        "empty folder",
    ],
)
def test_unreadable_inputs_are_named_and_the_others_processed(
    tmp_path: Path, infer: Infer, make: Any, part: str
):
    good = save(tmp_path / "good.png", street())
    bad = make(tmp_path / "bad\n.png")
    code, document = infer(bad, good)
    assert code == EXIT_NO_INPUT
    assert [entry["file"] for entry in document] == [str(good)]
    (complaint,) = infer.complaints
    assert part in complaint


def test_file_that_is_not_a_video_is_named(tmp_path: Path, infer: Infer):
    bad = tmp_path / "clip.mp4"
    bad.write_bytes(b"\0" * 10_000)
    code, document = infer(bad, "--no-color")
    assert code == EXIT_NO_INPUT
    assert document == []
    (complaint,) = infer.complaints
    assert f"{bad}: not a video" in complaint


def test_truncated_video_gives_its_frames_and_an_error(tmp_path: Path, infer: Infer):
    content = CLIP.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) // 5])
    code, document = infer(cut, "--no-color")
    assert code == EXIT_NO_INPUT
    assert 5 < len(document) < 125
    (complaint,) = infer.complaints
    assert re.search(rf"ends after {len(document)} of \d+ frames", complaint)


def test_annotated_pictures_show_boxes(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "in" / "street.png", street())
    code, (entry,) = infer(picture, "--annotate", tmp_path / "out")
    assert code == EXIT_OK
    drawn = cv2.imread(str(tmp_path / "out" / "street.jpg"))
    assert drawn is not None
    assert drawn.shape == (256, 256, 3)
    # The frame of the blue box, where the picture was black, is orange now.
    assert drawn[160, 191, 2] > 150
    assert drawn[40, 200].max() < 50
    for found in entry["detections"]:  # each caption has a patch of the object's color
        top = max(round(found["box_px"][1]), 20)
        caption = drawn[top - 20 : top]
        away = np.abs(caption.astype(int) - drawing.TERM_BGR[found["colors"][0]["name"]])
        assert (away.max(axis=2) < 40).any()


def test_annotated_frames_of_a_video_are_numbered(tmp_path: Path, infer: Infer):
    clip = video(tmp_path / "clip.avi", 3)
    infer(clip, "--annotate", tmp_path / "out", "--no-color")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["clip-000001.jpg", "clip-000002.jpg", "clip-000003.jpg"]


def test_annotating_overwrites_neither_inputs_nor_each_other(tmp_path: Path, infer: Infer):
    names = ("a.jpg", "a.png", "sub/a.jpg", "sub/a-2.jpg")
    originals = [save(tmp_path / name, street()) for name in names]
    before = [path.read_bytes() for path in originals]
    code, document = infer(*originals, "--annotate", tmp_path)
    assert code == EXIT_OK
    assert len(document) == 4
    assert [path.read_bytes() for path in originals] == before
    new = {path.name for path in tmp_path.iterdir()} - {"a.jpg", "a.png", "sub"}
    assert new == {"a-2.jpg", "a-3.jpg", "a-4.jpg", "a-2-2.jpg"}


def test_annotating_beside_the_inputs_overwrites_nothing_there(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "a.jpg", street())
    other = save(tmp_path / "a-2.jpg", street()[::2])
    before = other.read_bytes()
    infer(picture, "--annotate", tmp_path)
    assert other.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a-2.jpg", "a-3.jpg"}
    elsewhere = tmp_path / "drawn"
    for _ in range(2):  # a further run replaces its own pictures
        infer(picture, "--annotate", elsewhere)
    assert [path.name for path in elsewhere.iterdir()] == ["a.jpg"]


def test_output_names_for_many_equal_names_take_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Path] = []
    real = lookup.real
    monkeypatch.setattr(lookup, "real", lambda path: asked.append(path) or real(path))
    album = Album(tmp_path, [])
    for folder in range(200):
        picture = Picture(Path(f"{folder}/frame.jpg"), np.zeros((4, 4, 3), np.uint8), None)
        album.add(picture, {})
    assert len(list(tmp_path.iterdir())) == 200
    assert len(asked) < 1000


def test_color_task_writes_the_color_on_the_picture(tmp_path: Path, infer: Infer):
    crop = save(tmp_path / "crop.png", np.full((60, 120, 3), RED, np.uint8))
    code, _document = infer(crop, "--annotate", tmp_path / "out", task="color")
    assert code == EXIT_OK
    drawn = cv2.imread(str(tmp_path / "out" / "crop.jpg"))
    assert drawn is not None
    assert (drawn.min(axis=2) > 180).any()  # white letters


def test_threads_process_pictures_at_a_time_and_keep_their_order(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        save(tmp_path / name, street())
    together = threading.Barrier(2, timeout=20)
    classify = ColorModel.classify

    def slow_first(model: ColorModel, bgr: np.ndarray, label: str | None) -> list[ColorScore]:
        if together.wait() == 0:
            time.sleep(0.05)
        return classify(model, bgr, label)

    monkeypatch.setattr(ColorModel, "classify", slow_first)
    code, document = infer(tmp_path, "--threads", 2, task="color")
    assert code == EXIT_OK
    assert [Path(entry["file"]).name for entry in document] == ["a.png", "b.png", "c.png", "d.png"]


def test_objects_option_passes_the_class_of_each_image_to_the_color_model(
    tmp_path: Path, infer: Infer
):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "crops" / name, np.full((40, 20, 3), RED, np.uint8))
    objects = tmp_path / "objects.json"
    objects.write_text(json.dumps({"a.png": "dog", "b.png": "car", "c.png": None}))
    options = ("--objects", objects, "--color-model", CLASS_COLOR)
    code, document = infer(tmp_path / "crops", *options, task="color")
    assert code == EXIT_OK
    names = {Path(entry["file"]).name: entry["colors"][0]["name"] for entry in document}
    assert names == {"a.png": "brown", "b.png": "red", "c.png": "red"}


def test_unmatched_objects_entries_are_reported_beside_matched_ones(
    tmp_path: Path, infer: Infer, caplog: pytest.LogCaptureFixture
):
    save(tmp_path / "crops" / "a.png", np.full((40, 20, 3), RED, np.uint8))
    objects = tmp_path / "objects.json"
    objects.write_text(json.dumps({"a.png": "dog", "A.png": "dog", "b.png": "car"}))
    options = ("--objects", objects, "--color-model", CLASS_COLOR)
    code, _ = infer(tmp_path / "crops", *options, task="color")
    assert code == EXIT_OK
    assert f"infer.unknown_files file={objects} entries=2 of 3 first=A.png" in caplog.text


def test_objects_entries_with_equal_names_are_distinguished_by_path(tmp_path: Path, infer: Infer):
    crop = save(tmp_path / "1.png", np.full((40, 20, 3), RED, np.uint8))
    crops = [tmp_path / os.fsdecode(folder) / "1.png" for folder in (b"\xff", b"b")]
    for path in crops:
        path.parent.mkdir()
        path.write_bytes(crop.read_bytes())
    objects = tmp_path / "objects.json"
    objects.write_text(json.dumps({f"{tmp_path}/\\xff/1.png": "dog", "1.png": "car"}))
    options = ("--objects", objects, "--color-model", CLASS_COLOR)
    _, document = infer(*crops, *options, task="color")
    assert [entry["colors"][0]["name"] for entry in document] == ["brown", "red"]


def test_objects_entries_without_picture_or_class_are_reported(
    tmp_path: Path, infer: Infer, caplog: pytest.LogCaptureFixture
):
    crop = save(tmp_path / "crops" / "a.png", np.full((40, 20, 3), RED, np.uint8))
    objects = tmp_path / "objects.json"
    options = ("--objects", objects, "--color-model", CLASS_COLOR)
    objects.write_text(json.dumps({"crops/a.png": "dog"}))
    code, document = infer(crop, *options, task="color")
    assert (code, document[0]["dominant"]) == (EXIT_OK, "red")  # as without a label
    expected = f"entries=1 of 1 first=crops/a.png; pictures are named a.png or {crop}"
    assert expected in caplog.text
    objects.write_text(json.dumps({"a.png": "Dog"}))
    assert infer(crop, *options, task="color")[0] == EXIT_OK
    assert "labels=Dog; tiny-class-color knows" in caplog.text


@pytest.mark.parametrize("content", [None, "", "[1]", '{"a.png": 3}', "\xff", '{"a.png": "\xff"}'])
def test_malformed_objects_file_is_named(tmp_path: Path, infer: Infer, content: str | None):
    crop = save(tmp_path / "a.png", np.full((40, 20, 3), RED, np.uint8))
    objects = tmp_path / "objects.json"
    if content is not None:
        objects.write_text(content, encoding="latin-1")
    code, document = infer(crop, "--objects", objects, task="color")
    assert (code, document) == (EXIT_NO_INPUT, None)
    (complaint,) = infer.complaints
    assert str(objects) in complaint


def test_objects_of_an_empty_folder_are_no_further_fault(tmp_path: Path, infer: Infer):
    (tmp_path / "empty").mkdir()
    objects = tmp_path / "objects.json"
    objects.write_text('{"a.png": "dog"}')
    code, document = infer(tmp_path / "empty", "--objects", objects, task="color")
    assert (code, document) == (EXIT_NO_INPUT, [])
    assert "no images or videos" in infer.complaints[-1]


def test_objects_without_the_color_task_are_a_usage_error(tmp_path: Path, infer: Infer):
    crop = save(tmp_path / "a.png", np.full((40, 20, 3), RED, np.uint8))
    code, document = infer(crop, "--objects", tmp_path / "objects.json")
    assert (code, document) == (EXIT_USAGE, None)
    assert "--task color" in infer.complaints[0]


def test_output_option_writes_a_file(tmp_path: Path, infer: Infer):
    picture = save(tmp_path / "street.png", street())
    code, printed = infer(picture, "--output", tmp_path / "found.json")
    assert code == EXIT_OK
    assert printed is None
    assert len(json.loads((tmp_path / "found.json").read_text())[0]["detections"]) == 2


def test_one_pixel_and_gray_pictures_are_processed(tmp_path: Path, infer: Infer):
    save(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    save(tmp_path / "gray.png", np.zeros((30, 500), np.uint8))
    save(tmp_path / "deep.png", np.zeros((30, 40, 3), np.uint16))
    code, document = infer(tmp_path)
    assert code == EXIT_OK
    assert [(entry["width"], entry["height"]) for entry in document] == [
        (40, 30),
        (1, 1),
        (500, 30),
    ]


def test_a_model_of_the_wrong_task_is_refused(
    tmp_path: Path, tiny_models_dir: Path, capsys: pytest.CaptureFixture[str]
):
    picture = str(save(tmp_path / "street.png", street()))
    where = ["--models-dir", str(tiny_models_dir), "--no-color"]
    assert main(["infer", picture, *where, "--model", COLOR]) == EXIT_CONFIG
    assert COLOR in capsys.readouterr().err
    color = ["--task", "color", "--model", DETECT]
    assert main(["infer", picture, *where, *color]) == EXIT_CONFIG
    assert DETECT in capsys.readouterr().err


def test_shipped_models_find_the_demos_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    golden = shutil.copy(next(ROOT.glob("models/yolox-nano-352/golden.*")), tmp_path)
    assert main(["infer", str(golden)]) == EXIT_OK
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["detections"]
    names = {color["name"] for found in entry["detections"] for color in found["colors"]}
    assert names <= {*TERMS, "unknown"}
    assert names


def test_progress_bar_shows_only_in_a_terminal(
    tmp_path: Path, infer: Infer, monkeypatch: pytest.MonkeyPatch
):
    picture = save(tmp_path / "street.png", street())
    infer(picture)
    assert infer.complaints == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    infer(picture, picture)
    assert any("2/2 files" in line for line in infer.complaints)


def test_progress_bar_has_its_width_when_a_video_holds_more_frames_than_it_states(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert [*progress.bar(range(5), 3, "frames")] == [0, 1, 2, 3, 4]
    shown = capsys.readouterr().err.split("\r")
    assert f"[{'#' * progress.WIDTH}] 5/5 frames, 0 s left" in shown[-1]
