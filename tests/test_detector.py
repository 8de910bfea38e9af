"""The detector on its shipped models, against the float network, and at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge import certificate, manifest
from edge.detector import (
    MAX_DETECTIONS,
    Candidates,
    Detector,
    Letterbox,
    quantized_logit,
    suppress,
)
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.manifest import Input, TensorSpec
from edge.values import Box, Detection, Image
from models import color_folder, detect_folder

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "models").glob("yolox-nano-*"))


def golden_picture(folder: Path) -> np.ndarray:
    golden = manifest.read(folder).golden
    assert golden is not None
    picture = cv2.imread(str(folder / golden.file))
    assert picture is not None
    return picture


def spec(dtype: str = "int8", scale: float = 1.0, zero_point: int = -128, **more: object) -> Input:
    facts = {"color_order": "bgr", "resize": "letterbox", "shape": (1, 64, 64, 3)} | more
    return Input(name="input", dtype=dtype, scale=scale, zero_point=zero_point, **facts)  # type: ignore[arg-type]


def matching(found: list[Detection], label: str, box: Box) -> Detection | None:
    same = [item for item in found if item.label == label]
    return max(same, key=lambda item: item.box_px.iou(box), default=None)


# --- the shipped models ---


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_shipped_detector_holds_no_float_tensor(folder: Path) -> None:
    proof = certificate.certify(folder / "model.tflite")
    assert proof.integer_only
    assert set(proof.tensors) == {"int8", "int32"}


@pytest.mark.parametrize("xnnpack", [True, False], ids=["xnnpack", "builtin"])
@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_golden_objects_are_found_within_tolerance(folder: Path, xnnpack: bool) -> None:
    golden = manifest.read(folder).golden
    assert golden is not None
    assert golden.detections
    least = min(item.score for item in golden.detections) - golden.tolerance
    detector = Detector(Interpreter.load(folder, xnnpack=xnnpack), min_score=least)
    found = detector.detect(golden_picture(folder))
    for expected in golden.detections:
        box = Box(*expected.box_px)
        best = matching(found, expected.label, box)
        assert best is not None
        assert best.box_px.iou(box) >= golden.min_iou
        assert abs(best.score - expected.score) <= golden.tolerance


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_int8_finds_what_the_float_network_finds(folder: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tools.architectures import yolox
    from tools.float_detector import FloatDetector
    from tools.input_size import InputSize

    picture = golden_picture(folder)
    _, height, width, _ = manifest.read(folder).input.shape
    size = InputSize(width, height)
    faint = FloatDetector(yolox.WEIGHTS, size, min_score=0.1).detect(picture)
    expected = [item for item in faint if item.score >= 0.6]
    found = Detector(Interpreter.load(folder), min_score=0.35).detect(picture)
    assert len(expected) >= 5
    for item in expected:
        best = matching(found, item.label, item.box_px)
        assert best is not None
        assert best.box_px.iou(item.box_px) >= 0.7
        assert abs(best.score - item.score) <= 0.15
    sure = [item for item in found if item.score >= 0.7]
    assert len(sure) >= 3
    for item in sure:
        same = matching(faint, item.label, item.box_px)
        assert same is not None
        assert same.box_px.iou(item.box_px) >= 0.7


def decoded_plainly(
    real: dict[str, np.ndarray], model: manifest.Manifest, least: float, ratio: float
) -> list[tuple[str, float, Box]]:
    """Every cell in floats, one by one: slow and plain, to compare with."""
    _, input_height, input_width, _ = model.input.shape
    found: list[tuple[str, float, Box]] = []
    for stride in (8, 16, 32):
        for cell in range((input_height // stride) * (input_width // stride)):
            objectness = float(real[f"objectness_{stride}"][cell][0])
            x, y, log_width, log_height = (float(v) for v in real[f"box_{stride}"][cell])
            row, column = divmod(cell, input_width // stride)
            width, height = math.exp(log_width) * stride, math.exp(log_height) * stride
            left, top = (x + column) * stride - width / 2, (y + row) * stride - height / 2
            box = Box(left * ratio, top * ratio, width * ratio, height * ratio)
            for label, logit in zip(model.labels, real[f"class_{stride}"][cell], strict=True):
                score = 1 / (1 + math.exp(-objectness)) / (1 + math.exp(-float(logit)))
                if score >= least:
                    found.append((label, score, box))
    return suppressed_plainly(found, model.decoder.nms_iou, least)


def suppressed_plainly(
    found: Sequence[tuple[str, float, Box]], max_iou: float, least: float
) -> list[tuple[str, float, Box]]:
    """Soft suppression and voting as they are defined, box by box; best first."""
    left = dict(enumerate(found))
    kept: list[tuple[str, float, Box]] = []
    while left:
        leader = max(left, key=lambda index: left[index][1])
        label, score, box = left.pop(leader)
        if score < least:
            break
        voters = [
            (weight, other)
            for kind, weight, other in found
            if kind == label and (other is box or box.iou(other) > 0.7)
        ]
        total = sum(weight for weight, _ in voters)
        sides = np.sum([np.array(other) * (weight / total) for weight, other in voters], axis=0)
        kept.append((label, score, Box(*sides.tolist())))
        for index, (kind, weight, other) in list(left.items()):
            overlap = box.iou(other) if kind == label else 0.0
            if overlap > max_iou:
                del left[index]
            elif overlap > 0.5:
                left[index] = (kind, weight * (1 - overlap), other)
    return kept


def clipped(box: Box, picture: Image) -> Box:
    height, width = picture.shape[:2]
    left, top = max(box.x, 0), max(box.y, 0)
    right, bottom = min(box.x + box.width, width), min(box.y + box.height, height)
    return Box(left, top, right - left, bottom - top)


@pytest.mark.parametrize("min_score", [0.05, 0.3, 0.6])
def test_quantized_threshold_keeps_the_same_boxes_as_float_decoding(min_score: float) -> None:
    folder = MODELS[0]
    picture = golden_picture(folder)
    interpreter = Interpreter.load(folder)
    model = interpreter.manifest
    found = Detector(interpreter, min_score=min_score).detect(picture)
    real = {
        item.name: (interpreter.output(item.name).astype(float) - item.zero_point) * item.scale
        for item in model.outputs
    }
    flat = {name: value.reshape(-1, value.shape[2]) for name, value in real.items()}
    ratio = max(picture.shape[1] / model.input.shape[2], picture.shape[0] / model.input.shape[1])
    expected = decoded_plainly(flat, model, min_score, ratio)
    assert [(item.label, pytest.approx(item.score, abs=1e-4)) for item in found] == [
        (label, score) for label, score, _ in expected
    ]
    for item, (_, _, box) in zip(found, expected, strict=True):
        assert item.box_px.iou(clipped(box, picture)) > 0.999


def test_boxes_stay_in_the_frame_and_are_sorted_by_score() -> None:
    found = Detector(Interpreter.load(MODELS[0]), min_score=0.01).detect(golden_picture(MODELS[0]))
    assert 10 < len(found) <= MAX_DETECTIONS
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)
    for item in found:
        assert item.box_px.x >= 0
        assert item.box_px.y >= 0
        assert item.box_px.x + item.box_px.width <= 768.01
        assert item.box_px.y + item.box_px.height <= 576.01


def test_gray_frame_has_no_objects_and_is_not_modified() -> None:
    wall = np.full((480, 640, 3), 127, np.uint8)
    assert Detector(Interpreter.load(MODELS[0]), min_score=0.3).detect(wall) == []
    assert (wall == 127).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (33, 7)])
def test_any_size_of_frame_works(size: tuple[int, int]) -> None:
    Detector(Interpreter.load(MODELS[0]), min_score=0.3).detect(np.zeros((*size, 3), np.uint8))


@pytest.mark.parametrize("shape", [(0, 10, 3), (10, 0, 3), (10, 10), (10, 10, 4), (0, 0, 3)])
def test_frame_of_invalid_shape_is_refused(shape: tuple[int, ...]) -> None:
    detector = Detector(Interpreter.load(MODELS[0]), min_score=0.3)
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        detector.detect(np.zeros(shape, np.uint8))


def test_frame_of_floats_is_refused() -> None:
    detector = Detector(Interpreter.load(MODELS[0]), min_score=0.3)
    with pytest.raises(ValueError, match=r"must be uint8 .* got float32"):
        detector.detect(np.zeros((9, 9, 3), np.float32))


@pytest.mark.parametrize(("make", "task"), [(detect_folder, "color"), (color_folder, "detect")])
def test_model_of_another_task_is_refused(
    tmp_path: Path, make: Callable[..., Path], task: str
) -> None:
    loaded = Interpreter.load(make(tmp_path, task=task))
    with pytest.raises(ModelError, match="needs a model of task detect with decoder yolox"):
        Detector(loaded, min_score=0.5)


# --- letterbox ---


def test_yolox_without_strides_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    loaded = Interpreter.load(detect_folder(tmp_path, decoder=manifest.Decoder(name="yolox")))
    with pytest.raises(ModelError, match="yolox without strides"):
        Detector(loaded, min_score=0.5)


def test_letterbox_writes_pixels_and_padding_as_int8() -> None:
    bgr = np.arange(32 * 64 * 3, dtype=np.uint32).reshape(32, 64, 3).astype(np.uint8)
    view = np.full((64, 64, 3), 77, np.int8)
    Letterbox(spec()).write(bgr, view)
    assert (view[:32].astype(int) + 128 == bgr).all()
    assert (view[32:] == 114 - 128).all()


def test_letterbox_pads_right_of_a_tall_frame() -> None:
    view = np.zeros((64, 64, 3), np.int8)
    Letterbox(spec()).write(np.full((64, 16, 3), 255, np.uint8), view)
    assert (view[:, :16] == 127).all()
    assert (view[:, 16:] == 114 - 128).all()


def test_letterbox_swaps_colors_for_an_rgb_model() -> None:
    bgr = np.full((64, 64, 3), (10, 20, 30), np.uint8)
    view = np.zeros((64, 64, 3), np.uint8)
    Letterbox(spec("uint8", 1.0, 0, color_order="rgb")).write(bgr, view)
    assert view[5, 5].tolist() == [30, 20, 10]


@pytest.mark.parametrize(
    ("span", "scale", "zero_point", "low", "high"),
    [
        ("0..1", 1 / 255, -128, 0.0, 1.0),
        ("-1..1", 1 / 128, 0, -1.0, 1.0),
        ("-1..1", 0.01, 10, -1.0, 1.0),
    ],
)
def test_letterbox_uses_the_input_scale_of_the_model(
    span: str, scale: float, zero_point: int, low: float, high: float
) -> None:
    bgr = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    view = np.zeros((16, 16, 3), np.int8)
    Letterbox(spec("int8", scale, zero_point, range=span, shape=(1, 16, 16, 3))).write(bgr, view)
    real = (view.astype(float) - zero_point) * scale
    wanted = low + bgr / 255 * (high - low)
    assert np.abs(real - wanted).max() <= scale  # half a step, and one clipped at the top


# --- parts ---


@given(
    st.floats(0.001, 0.999), st.floats(0.01, 0.3), st.integers(-128, 127), st.integers(-128, 127)
)
def test_quantized_threshold_never_drops_a_score_at_or_above_it(
    score: float, scale: float, zero_point: int, value: int
) -> None:
    tensor = TensorSpec(name="x", shape=(1,), dtype="int8", scale=scale, zero_point=zero_point)
    reached = 1 / (1 + math.exp(-(value - zero_point) * scale))
    bound = quantized_logit(score, tensor)
    assert -128 <= bound <= 127
    if reached >= score:
        assert value >= bound
    elif value > bound:
        # The bound is tight: any value above it reaches the score.
        pytest.fail(f"{value} passes the bound {bound} but {reached} < {score}")


boxes = st.lists(
    st.tuples(
        st.floats(0, 50, width=32), st.floats(0, 50, width=32),
        st.floats(1, 40, width=32), st.floats(1, 40, width=32),
        st.integers(0, 2), st.floats(0.015625, 1, width=32),
    ),
    max_size=25,
)  # fmt: skip


def candidates(drawn: Sequence[tuple[float, float, float, float, int, float]]) -> Candidates:
    return Candidates(
        np.array([score for *_, score in drawn], np.float32),
        np.array([kind for *_, kind, _ in drawn], np.intp),
        np.array([(x, y, x + w, y + h) for x, y, w, h, _, _ in drawn], np.float32).reshape(-1, 4),
    )


@given(boxes, st.sampled_from([0.4, 0.6, 0.65, 0.8]))
def test_suppression_matches_its_definition(
    drawn: list[tuple[float, float, float, float, int, float]], max_iou: float
) -> None:
    plain = [(str(kind), score, Box(x, y, w, h)) for x, y, w, h, kind, score in drawn]
    overlaps = [one.iou(other) for _, _, one in plain for _, _, other in plain]
    edges = (0.5, 0.7, max_iou)
    assume(all(abs(value - edge) > 1e-4 for value in overlaps for edge in edges))
    near = suppressed_plainly(plain, max_iou, 0.019)
    assume(all(abs(score - 0.02) > 1e-4 for _, score, _ in near))
    expected = suppressed_plainly(plain, max_iou, 0.02)
    objects, leaders = suppress(candidates(drawn), max_iou, 0.02)
    assert len(leaders) == len(expected)
    assert objects.scores == pytest.approx([score for _, score, _ in expected], rel=1e-3)
    for kind, corners, leader, (label, _, box) in zip(
        objects.classes, objects.corners, leaders, expected, strict=True
    ):
        assert str(kind) == label == plain[leader][0]
        wanted = (box.x, box.y, box.x + box.width, box.y + box.height)
        assert corners == pytest.approx(wanted, abs=1e-2)


def test_a_person_behind_another_is_kept_with_a_lower_score_and_one_box_beside_it() -> None:
    front, same, behind = (0, 0, 10, 10), (1, 0, 10, 10), (3, 0, 10, 10)
    drawn = [(*front, 0, 0.9), (*same, 0, 0.3), (*behind, 0, 0.8)]
    objects, leaders = suppress(candidates(drawn), 0.65, 0.05)  # IoU .82 and .54
    assert leaders.tolist() == [0, 2]
    assert objects.scores == pytest.approx([0.9, 0.8 * (1 - 7 / 13)], abs=1e-6)
    assert objects.corners[0] == pytest.approx([0.25, 0, 10.25, 10])


def test_max_iou_of_one_keeps_every_candidate_unchanged() -> None:
    drawn = [(0, 0, 10, 10, 0, 0.5), (0, 0, 10, 10, 0, 0.9), (1, 0, 10, 10, 0, 0.7)]
    objects, leaders = suppress(candidates(drawn), 1.0, 0.05)
    assert leaders.tolist() == [1, 2, 0]
    assert objects.corners[1].tolist() == [1, 0, 11, 10]


def test_boxes_far_outside_do_not_affect_others() -> None:
    drawn = [(0, 0, 10, 10, 0, 0.9), (-3e38, 0, 3e38, 1, 0, 0.8), (0, 0, 0, 0, 0, 0.7)]
    objects, leaders = suppress(candidates(drawn), 0.6, 0.05)
    assert leaders.tolist() == [0, 1, 2]
    assert objects.corners[0].tolist() == [0, 0, 10, 10]
