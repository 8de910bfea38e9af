"""`edge-tools import-model`: reads what a file contains, asks for the rest."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.schema_py_generated", reason="tflite-runtime has no schema")

from edge import manifest
from edge.detector import Detector
from edge.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE
from edge.interpreter import Interpreter
from models import DATA
from tools import coco_labels, foreign_file, golden, import_model, package
from tools.cli import main

ROOT = Path(__file__).parents[1]
BASELINES = ROOT.parent / "shared" / "baselines"
GOLDEN = ROOT / "models" / "yolox-nano-352" / "golden.jpg"
needs_baselines = pytest.mark.skipif(not BASELINES.exists(), reason="the baselines are not here")
KINDS = {
    "yolov5": "yolov5",
    "yolov8": "yolov8",
    "yolov8_float": "yolov8",
    "ssd": "ssd_postprocess",
}


@pytest.fixture
def two(tmp_path: Path) -> str:
    path = tmp_path / "labels.txt"
    path.write_text("person\ncar\n")
    return str(path)


def imported(file: str, decoder: str, folder: Path, *more: str) -> int:
    path = DATA / f"{file}.tflite" if "/" not in file else Path(file)
    return main(["import-model", str(path), "--decoder", decoder, "--output", str(folder), *more])


def found_in_red_and_blue(folder: Path) -> set[str]:
    bgr = np.zeros((64, 64, 3), np.uint8)
    bgr[:16, :16], bgr[48:, 48:] = (0, 0, 255), (255, 0, 0)
    return {item.label for item in Detector(Interpreter.load(folder), min_score=0.5).detect(bgr)}


@pytest.mark.parametrize("kind", KINDS)
def test_imported_model_runs(
    tmp_path: Path,
    kind: str,
    two: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Often another file system, from which a folder cannot be moved whole or not at all.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    folder = tmp_path / "very" / "deep" / kind
    more = ["--box-unit", "share", "--range", "0..255"] if kind == "yolov8_float" else []
    code = imported(kind, KINDS[kind], folder, "--labels", two, "--resize", "stretch", *more)
    assert code == EXIT_OK
    model = manifest.read(folder)
    assert (model.name, model.decoder.name, model.input.range) == (kind, KINDS[kind], "0..255")
    assert model.decoder.channels_first == kind.startswith("yolov8")
    assert model.allow_float == (kind in ("ssd", "yolov8_float"))
    printed = capsys.readouterr().out
    assert printed.startswith(f"{folder}: {KINDS[kind]}, 64x64 {model.input.dtype}, rgb 0..255, ")
    assert ("not integer-only" in printed) == model.allow_float
    assert ("**Not integer-only**" in (folder / "CARD.md").read_text()) == model.allow_float
    assert (folder / "model.tflite").read_bytes() == (DATA / f"{kind}.tflite").read_bytes()
    assert found_in_red_and_blue(folder) == {"person", "car"}
    assert [path.name for path in folder.parent.iterdir()] == [kind]


def test_outputs_of_the_operator_get_their_roles_whatever_their_order(
    tmp_path: Path, two: str
) -> None:
    assert imported("ssd", "ssd_postprocess", tmp_path / "ssd", "--labels", two) == EXIT_OK
    model = manifest.read(tmp_path / "ssd")
    assert model.outputs[0].name == "detections:3"
    assert model.decoder.roles["boxes"] == "detections"
    assert model.decoder.roles["count"] == "detections:3"
    assert (model.input.resize, model.decoder.nms_iou) == ("stretch", 1.0)


def test_options_are_stored_in_manifest_and_card(tmp_path: Path, two: str) -> None:
    more = ["--labels", two, "--version", "2.1.0", "--licence", "MIT", "--source", "example.org"]
    image = ["--color-order", "bgr", "--resize", "stretch", "--range", "0..1"]
    boxes = ["--box-unit", "share", "--nms-iou", "0.4"]
    assert imported("yolov5", "yolov5", tmp_path / "m", *more, *image, *boxes) == EXIT_OK
    model = manifest.read(tmp_path / "m")
    assert (model.version, model.licence) == ("2.1.0", "MIT")
    assert model.training == {"source": "example.org", "file": "yolov5.tflite"}
    read = (model.input.color_order, model.input.resize, model.input.range)
    assert read == ("bgr", "stretch", "0..1")
    assert (model.decoder.box_unit, model.decoder.nms_iou) == ("share", 0.4)
    card = (tmp_path / "m" / "CARD.md").read_text()
    assert "| source | example.org |\n| licence | MIT |" in card


def test_defaults_are_those_of_published_files(tmp_path: Path, two: str) -> None:
    assert imported("yolov5", "yolov5", tmp_path / "yolo", "--labels", two) == EXIT_OK
    model = manifest.read(tmp_path / "yolo")
    assert (model.input.color_order, model.input.resize) == ("rgb", "letterbox")
    assert (model.decoder.nms_iou, model.decoder.class_ids) == (import_model.NMS_IOU, ())
    assert imported("ssd", "ssd_postprocess", tmp_path / "ssd") == EXIT_OK
    ssd = manifest.read(tmp_path / "ssd")
    assert dict(zip(ssd.labels, ssd.decoder.class_ids, strict=True)) == coco_labels.COCO90


@pytest.mark.parametrize("share", ["0", "1"])
def test_any_share_is_an_overlap_to_suppress(tmp_path: Path, two: str, share: str) -> None:
    more = ["--labels", two, "--nms-iou", share]
    assert imported("yolov5", "yolov5", tmp_path / "m", *more) == EXIT_OK


@pytest.mark.parametrize("option", ["--nms-iou 0.4", "--box-unit share"])
def test_option_that_a_decoder_does_not_read_is_refused(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported("ssd", "ssd_postprocess", tmp_path / "m", *option.split()) == EXIT_USAGE
    told = f"--decoder ssd_postprocess takes no {option.split(maxsplit=1)[0]}\n"
    assert capsys.readouterr().err.endswith(told)


def test_parameters_are_counted(tmp_path: Path, two: str) -> None:
    imported("yolov5", "yolov5", tmp_path / "m", "--labels", two)
    assert manifest.read(tmp_path / "m").parameters == 7 * 3 + 7


def test_unnamed_labels_are_dropped_and_keep_selects_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("???\ncar\n")
    assert imported("yolov5", "yolov5", tmp_path / "one", "--labels", str(labels)) == EXIT_OK
    model = manifest.read(tmp_path / "one")
    assert (model.labels, model.decoder.class_ids) == (("car",), (1,))
    labels.write_text("person\ncar\n")
    more = ["--labels", str(labels), "--keep", "car"]
    assert imported("yolov5", "yolov5", tmp_path / "two", *more) == EXIT_OK
    assert manifest.read(tmp_path / "two").decoder == model.decoder
    assert found_in_red_and_blue(tmp_path / "two") == {"car"}
    more = ["--labels", str(labels), "--keep", "person"]
    assert imported("yolov5", "yolov5", tmp_path / "first", *more) == EXIT_OK
    assert found_in_red_and_blue(tmp_path / "first") == {"person"}


def test_labels_as_windows_programs_save_them_have_their_own_names(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("person\r\ncar\r\n", encoding="utf-8-sig", newline="")
    assert import_model.read_labels(str(labels)) == ({"person": 0, "car": 1}, 2)


def test_validation_reproduces_the_golden_result(tmp_path: Path, two: str) -> None:
    more = ["--labels", two, "--golden", str(GOLDEN)]
    assert imported("yolov5", "yolov5", tmp_path / "m", *more) == EXIT_OK
    assert golden.differences(tmp_path / "m") == []


@pytest.mark.parametrize(("corner", "warnings"), [(0, 1), (255, 0)])
def test_golden_picture_in_which_nothing_is_found_is_reported(
    tmp_path: Path, two: str, caplog: pytest.LogCaptureFixture, corner: int, warnings: int
) -> None:
    bgr = np.zeros((64, 64, 3), np.uint8)
    bgr[:16, :16, 2] = corner
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), bgr)
    more = ["--labels", two, "--golden", str(picture)]
    assert imported("yolov5", "yolov5", tmp_path / "m", *more) == EXIT_OK
    found = [one for one in caplog.records if one.getMessage().startswith("golden.empty")]
    assert len(found) == warnings


WRONG = {
    "labels": (["yolov5", "yolov5"], "80 classes need 85 channels", EXIT_CONFIG),
    "decoder": (["ssd", "yolov8", "--labels", "TWO"], "one output of three axes", EXIT_CONFIG),
    "operator": (["yolov5", "ssd_postprocess"], "no TFLite_Detection_PostProcess", EXIT_CONFIG),
    "range": (["yolov8_float", "yolov8", "--labels", "TWO"], "give --range", EXIT_CONFIG),
    "unit": (["yolov8_float", "yolov8", "--labels", "TWO", "--range", "0..1"], "--box-unit", 78),
    "shape": (["color", "yolov5"], "one output of three axes", EXIT_CONFIG),
    "no_file": (["/no/where.tflite", "yolov5"], "No such file", EXIT_CONFIG),
    "no_model": ([str(GOLDEN), "yolov5"], "not a TFLite flatbuffer", EXIT_CONFIG),
    "keep": (["yolov5", "yolov5", "--labels", "TWO", "--keep", "cow"], "cow", EXIT_NO_INPUT),
    "no_labels": (
        ["yolov5", "yolov5", "--labels", "/no/x.txt"],
        "/no/x.txt: No such",
        EXIT_NO_INPUT,
    ),
    "float_in": (["float", "yolov5"], "give --range", EXIT_CONFIG),
    "golden": (["yolov5", "yolov5", "--labels", "TWO", "--golden", "/no/p.jpg"], "/no/p.jpg", 66),
    "no_picture": (["yolov5", "yolov5", "--labels", "TWO", "--golden", __file__], __file__, 66),
}


@pytest.mark.parametrize("case", WRONG)
def test_failed_import_is_a_one_line_error_and_leaves_nothing(
    tmp_path: Path, case: str, two: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, part, code = WRONG[case]
    file, decoder, *more = [two if word == "TWO" else word for word in words]
    (tmp_path / "out").mkdir()
    assert imported(file, decoder, tmp_path / "out" / "m", *more) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (b"detections:1", b"detecti\xffns:1", "refuses it"),  # no UTF-8
        (b"max_classes_per_detection", b"max_classes_per_detectioX", "cannot run it"),
    ],
)
def test_damaged_file_is_a_one_line_error(
    tmp_path: Path, old: bytes, new: bytes, part: str, two: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (DATA / "ssd.tflite").read_bytes()
    assert content.count(old) >= 1
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content.replace(old, new))
    code = imported(str(path), "ssd_postprocess", tmp_path / "m", "--labels", two)
    assert code == EXIT_CONFIG
    assert part in capsys.readouterr().err


def test_golden_picture_that_cannot_be_saved_leaves_nothing(
    tmp_path: Path, two: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "golden.jpg")

    def fail(*_: object, **__: object) -> None:
        raise full

    more = ["--labels", two, "--golden", str(GOLDEN)]
    with monkeypatch.context() as patched:
        patched.setattr(package, "add_golden_detections", fail)
        assert imported("yolov5", "yolov5", tmp_path / "out" / "m", *more) == EXIT_FAILURE
    assert list((tmp_path / "out").iterdir()) == []
    assert imported("yolov5", "yolov5", tmp_path / "out" / "m", *more) == EXIT_OK


def test_option_keep_may_be_repeated(tmp_path: Path, two: str) -> None:
    more = ["--labels", two, "--keep", "car", "--keep", "person"]
    assert imported("yolov5", "yolov5", tmp_path / "m", *more) == EXIT_OK
    assert manifest.read(tmp_path / "m").labels == ("car", "person")


def test_existing_folder_is_not_modified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported("yolov5", "yolov5", tmp_path) == EXIT_FAILURE
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"car\ncar\n", "one name twice"),
        (b"???\n\n", "no name"),
        (b"\xff\xfe", "no text"),
        (b"car\nbottle/can\n", "line 2: 'bottle/can': names become MQTT topics"),
    ],
)
def test_labels_that_name_no_classes_are_refused(
    tmp_path: Path, content: bytes, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(content)
    assert imported("yolov5", "yolov5", tmp_path / "m", "--labels", str(labels)) == EXIT_NO_INPUT
    assert part in capsys.readouterr().err


def test_built_in_labels_are_cocos() -> None:
    assert len(coco_labels.COCO80) == 80
    assert (coco_labels.COCO80["toothbrush"], coco_labels.COCO90["toothbrush"]) == (79, 89)
    assert (coco_labels.COCO80["dog"], coco_labels.COCO90["dog"]) == (16, 17)
    _, classes = import_model.read_labels("coco90")
    assert classes == 90


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "expected"),
    [
        ("uint8", 1.0, 0, "0..255"),
        ("int8", 1.0, -128, "0..255"),
        ("uint8", 0.003921568859, 0, "0..1"),
        ("uint8", 0.0078125, 128, "-1..1"),
        ("int8", 0.0078431, -1, "-1..1"),
    ],
)
def test_range_is_that_of_the_quantized_input(
    dtype: str, scale: float, zero_point: int, expected: str
) -> None:
    assert foreign_file.pixel_range(file_with(dtype, scale, zero_point)) == expected


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 0.02), ("float32", 1.0)])
def test_ambiguous_input_range_asks_for_the_option(dtype: str, scale: float) -> None:
    with pytest.raises(import_model.ModelError, match="--range"):
        foreign_file.pixel_range(file_with(dtype, scale, 0))


def file_with(dtype: str, scale: float, zero_point: int) -> foreign_file.ForeignFile:
    image = manifest.TensorSpec(
        name="x",
        shape=(1, 8, 8, 3),
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,  # type: ignore[arg-type]
    )
    return foreign_file.ForeignFile(Path("x.tflite"), image, (), {}, 0)


@needs_baselines
@pytest.mark.parametrize(
    ("file", "decoder"),
    [
        ("ssd_mobilenet_v1_coco_uint8", "ssd_postprocess"),
        ("yolov5n_coco_int8", "yolov5"),
    ],
)
def test_baselines_find_the_people_of_the_golden_picture(
    tmp_path: Path, file: str, decoder: str
) -> None:
    path = BASELINES / f"{file}.tflite"
    assert foreign_file.decoder_of(foreign_file.read(path)) == decoder
    more = ["--keep", "person", "car"]
    assert imported(str(path), decoder, tmp_path / "m", *more) == EXIT_OK
    found = Detector(Interpreter.load(tmp_path / "m"), min_score=0.5).detect(picture())
    expected = manifest.read(GOLDEN.parent).golden
    assert expected is not None
    hits = [
        any(item.label == one.label and item.box_px.iou(manifest_box(one)) > 0.5 for item in found)
        for one in expected.detections
    ]
    assert sum(hits) >= 0.8 * len(hits)


def picture() -> np.ndarray:
    from tools import dataset

    return dataset.load_file(GOLDEN)


def manifest_box(one: manifest.GoldenDetection) -> object:
    from edge.values import Box

    return Box(*one.box_px)
