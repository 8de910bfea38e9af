"""Detectors whose input takes the frame's shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wide_frame
from edge import manifest
from edge.cli import main
from edge.decoder_rules import contradiction
from edge.detector import Detector
from edge.detector.input_size import MIN_GAIN, MOST_PIXELS, fitting
from edge.errors import EXIT_CONFIG, ModelError
from edge.health import read_condition
from edge.interpreter import Interpreter
from edge.manifest import Decoder, Manifest
from edge.values import Image
from models import detect_folder

MODELS = sorted((Path(__file__).parents[1] / "models").glob("yolox-nano-*"))
RED, BLUE = (0, 0, 255), (255, 0, 0)
SIDES = st.integers(1, 3000)


def following(parent: Path, **changes: Any) -> Path:
    """Write the tiny detector of 64x64 pixels with an input that follows the frame."""
    folder = detect_folder(parent, **changes)
    model = manifest.read(folder)
    image = msgspec.structs.replace(model.input, follows_frame=True)
    manifest.write(folder, msgspec.structs.replace(model, input=image))
    return folder


def with_square(size: tuple[int, int], left: int, top: int, bgr: Sequence[int]) -> Image:
    """A black frame of (width, height) with a square of 16 pixels."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[top : top + 16, left : left + 16] = bgr
    return picture


def covered(size: tuple[int, int], frame: tuple[int, int]) -> float:
    return min(size[0] / frame[0], size[1] / frame[1])


# --- the size that fits a frame ---


@pytest.mark.parametrize(
    ("own", "frame", "expected"),
    [
        ((480, 352), (1920, 1080), (544, 320)),
        ((480, 352), (640, 480), (480, 352)),
        ((480, 352), (480, 640), (352, 480)),
        ((480, 352), (1080, 1920), (320, 544)),
        ((480, 352), (600, 600), (416, 416)),
        ((480, 384), (600, 600), (480, 384)),  # 416x416 shows it by 8 % larger only
        ((352, 288), (1280, 720), (416, 224)),
        ((288, 224), (1280, 720), (320, 192)),
        ((480, 384), (20000, 10), (992, 192)),
        ((64, 64), (1, 1), (64, 64)),
    ],
)
def test_input_is_as_large_as_the_pixel_budget_allows(
    own: tuple[int, int], frame: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitting(own, 32, frame) == expected


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([8, 16, 32]),
    st.tuples(SIDES, SIDES),
)
def test_input_size_stays_within_the_pixel_budget_and_maximizes_the_frame(
    cells: tuple[int, int], stride: int, frame: tuple[int, int]
) -> None:
    own = (cells[0] * stride, cells[1] * stride)
    size = fitting(own, stride, frame)
    assert all(side % stride == 0 and side >= min(own) / 2 for side in size)
    assert size[0] * size[1] <= MOST_PIXELS * own[0] * own[1]
    assert size == own or covered(size, frame) >= MIN_GAIN * covered(own, frame)


# --- what the detector does with it ---


@pytest.mark.parametrize(
    ("frame", "size"), [((128, 32), (128, 32)), ((32, 128), (32, 128)), ((64, 64), (64, 64))]
)
def test_objects_are_found_where_they_are_at_any_shape(
    tmp_path: Path, frame: tuple[int, int], size: tuple[int, int]
) -> None:
    loaded = Interpreter.load(following(tmp_path))
    detector = Detector(loaded, min_score=0.5)
    left, top = frame[0] - 16, frame[1] - 16
    (found,) = detector.detect(with_square(frame, left, top, BLUE))
    assert loaded.input_size == size
    assert found.label == "car"
    assert found.box_px == pytest.approx((left, top, 16, 16), abs=0.5)


def test_input_in_the_shape_of_the_frame_finds_more_than_a_square_one(tmp_path: Path) -> None:
    frame = with_square((128, 32), 112, 16, RED)
    own = Detector(Interpreter.load(detect_folder(tmp_path / "own")), min_score=0.5)
    follows = Detector(Interpreter.load(following(tmp_path / "follows")), min_score=0.5)
    assert not own.detect(frame)  # 8 of a cell's 16 pixels
    assert [one.label for one in follows.detect(frame)] == ["person"]


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_shipped_models_find_the_golden_objects_in_a_wide_frame(folder: Path) -> None:
    result = wide_frame.answer(folder)
    own, size = result.sizes
    assert size == fitting(own, 32, (768, 432)) != own
    assert len(result.expected) >= 3
    assert not result.missing


def test_detectors_that_share_an_interpreter_do_not_interfere(tmp_path: Path) -> None:
    loaded = Interpreter.load(following(tmp_path))
    first, second = (Detector(loaded, min_score=0.5) for _ in range(2))
    wide, square = with_square((128, 32), 0, 0, RED), with_square((64, 64), 48, 48, RED)
    alone = first.detect(wide)
    assert len(second.detect(square)) == 1
    assert first.detect(wide) == alone != []


@pytest.mark.parametrize("xnnpack", [True, False], ids=["xnnpack", "builtin"])
def test_resizing_leaks_no_memory(tmp_path: Path, *, xnnpack: bool) -> None:
    detector = Detector(Interpreter.load(MODELS[0], xnnpack=xnnpack), min_score=0.5)
    frames = [np.zeros((*size, 3), np.uint8) for size in ((90, 160), (160, 90), (120, 160))]

    def turn_by_turn(rounds: int) -> int:
        for _ in range(rounds):
            for frame in frames:
                detector.preprocess(frame)
        return read_condition().rss_bytes or 0

    before = turn_by_turn(20)
    assert before
    assert turn_by_turn(200) - before < 4 << 20


def test_results_for_a_folder_do_not_depend_on_the_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = following(tmp_path / "models")
    pictures = {
        "wide.png": with_square((128, 32), 96, 0, RED),
        "square.png": with_square((64, 64), 0, 32, BLUE),
        "high.png": with_square((32, 128), 16, 64, RED),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / name), picture)

    def infer(*names: str) -> dict[str, Any]:
        inputs = [str(tmp_path / name) for name in names]
        assert main(["infer", *inputs, "--model", str(folder)]) == 0
        entries = json.loads(capsys.readouterr().out)
        return {Path(entry["file"]).name: entry["detections"] for entry in entries}

    together = infer(*pictures)
    assert all(together.values())
    assert infer(*reversed(pictures)) == together
    for name in pictures:
        assert infer(name) == {name: together[name]}


# --- manifests that promise what the file does not keep ---


def test_fixed_size_model_that_promises_resizing_is_refused(tmp_path: Path) -> None:
    folder = following(tmp_path, file="detect_one_size.tflite")
    with pytest.raises(ModelError, match="takes one size only") as caught:
        Interpreter.load(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert "quantize detect" in message
    assert caught.value.exit_code == EXIT_CONFIG


def test_fixed_size_model_without_that_promise_loads(tmp_path: Path) -> None:
    Interpreter.load(detect_folder(tmp_path, file="detect_one_size.tflite"))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"resize": "stretch"}, "letterbox"),
        ({"shape": (1, 64, 72, 3)}, "do not divide"),
        ({"shape": (1, 64, 96, 3)}, "box_16"),
        ({}, ""),
    ],
)
def test_inputs_that_cannot_be_resized_are_reported(
    tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    model = manifest.read(following(tmp_path))
    fault = contradiction(with_input(model, **changes))
    assert part in fault
    assert bool(fault) == bool(part)


def test_decoder_without_strides_cannot_be_resized(tmp_path: Path) -> None:
    model = manifest.read(following(tmp_path))
    without = msgspec.structs.replace(model, decoder=Decoder(name="yolox"))
    assert "strides" in contradiction(without)


def with_input(model: Manifest, **changes: Any) -> Manifest:
    return msgspec.structs.replace(model, input=msgspec.structs.replace(model.input, **changes))
