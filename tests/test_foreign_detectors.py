"""Decoders of third-party detectors, on tiny files that compute real outputs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge import cli, manifest
from edge.decoder_rules import contradiction
from edge.detector import Detector, Letterbox, quantized_level
from edge.errors import EXIT_OK, ModelError
from edge.interpreter import Interpreter
from edge.manifest import Decoder, Input, TensorSpec
from edge.values import Box, Detection, Image
from models import FOREIGN, change_manifest, detect_folder, foreign_folder, refused_folder

RED, BLUE = (0, 0, 255), (255, 0, 0)  # BGR
every_kind = pytest.mark.parametrize("kind", FOREIGN)


def street() -> Image:
    """A red cell at row 0, column 2 and a blue one at row 3, column 1, on black; 128x128."""
    bgr = np.zeros((128, 128, 3), np.uint8)
    bgr[:32, 64:96] = RED
    bgr[96:, 32:64] = BLUE
    return bgr


def detector(folder: Path, min_score: float = 0.5) -> Detector:
    return Detector(Interpreter.load(folder), min_score=min_score)


def described(found: list[Detection]) -> dict[str, Box]:
    assert len({item.label for item in found}) == len(found)
    return {item.label: item.box_px for item in found}


@every_kind
def test_objects_are_found_where_they_are(tmp_path: Path, kind: str) -> None:
    found = detector(foreign_folder(tmp_path, kind)).detect(street())
    boxes = described(found)
    assert set(boxes) == {"person", "car"}
    assert boxes["person"].iou(Box(64, 0, 32, 32)) > 0.9
    assert boxes["car"].iou(Box(32, 96, 32, 32)) > 0.9
    assert all(0.95 < item.score <= 1.0 for item in found)


@every_kind
def test_threshold_decides_on_dim_objects(tmp_path: Path, kind: str) -> None:
    folder = foreign_folder(tmp_path, kind)
    bgr = street()
    bgr[:32, 64:96] = (0, 0, 160)  # less sure: 0.004 * 160, for yolov5 its square
    (score,) = (f.score for f in detector(folder, 0.05).detect(bgr) if f.label == "person")
    assert score == pytest.approx(0.41 if kind == "yolov5" else 0.64, abs=0.02)
    assert set(described(detector(folder, score + 0.01).detect(bgr))) == {"car"}
    assert set(described(detector(folder, score - 0.01).detect(bgr))) == {"car", "person"}


@every_kind
def test_boxes_are_scaled_from_the_letterbox_to_the_frame(tmp_path: Path, kind: str) -> None:
    wide = np.zeros((240, 480, 3), np.uint8)  # covers the upper half of the input
    wide[120:240, 240:360] = RED
    (found,) = detector(foreign_folder(tmp_path, kind), 0.6).detect(wide)
    assert found.box_px.iou(Box(240, 120, 120, 120)) > 0.9


@every_kind
def test_black_frame_has_no_objects(tmp_path: Path, kind: str) -> None:
    dark = np.zeros((50, 70, 3), np.uint8)
    assert detector(foreign_folder(tmp_path, kind), 0.1).detect(dark) == []


@every_kind
def test_only_listed_classes_are_detected(tmp_path: Path, kind: str) -> None:
    folder = foreign_folder(tmp_path, kind)
    chosen = msgspec.structs.replace(manifest.read(folder).decoder, class_ids=(1,))
    change_manifest(folder, decoder=chosen, labels=("truck",))
    found = described(detector(folder).detect(street()))
    assert set(found) == {"truck"}
    assert found["truck"].iou(Box(32, 96, 32, 32)) > 0.9


@pytest.mark.parametrize("kind", ["yolov5", "yolov8"])
def test_boxes_have_the_width_and_height_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    loaded = Interpreter.load(foreign_folder(tmp_path, kind))
    (spec,) = loaded.manifest.outputs
    plain = loaded.output

    def halved_width(name: str) -> Any:
        output = plain(name).copy()
        widths = output[2] if output.shape[0] < output.shape[1] else output[:, 2]
        widths[:] = (widths.astype(int) - spec.zero_point) // 2 + spec.zero_point
        return output

    monkeypatch.setattr(loaded, "output", halved_width)
    found = described(Detector(loaded, min_score=0.5).detect(street()))
    assert found["person"].iou(Box(72, 0, 16, 32)) > 0.9


def test_classes_missing_in_the_manifest_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Interpreter.load(foreign_folder(tmp_path, "ssd"))
    contents: dict[str, Any] = {
        "boxes": [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]],
        "classes": [1.0, 89.0],
        "scores": [0.9, 0.9],
        "count": 2.0,
    }
    roles = loaded.manifest.decoder.roles
    outputs = {roles[role]: np.array(values, np.float32) for role, values in contents.items()}
    monkeypatch.setattr(loaded, "output", outputs.__getitem__)
    (found,) = Detector(loaded, min_score=0.5).detect(street())
    assert found.label == "car"


@every_kind
def test_kernels_give_the_same_results(tmp_path: Path, kind: str) -> None:
    folder = foreign_folder(tmp_path, kind)
    plain = Detector(Interpreter.load(folder, xnnpack=False), min_score=0.5).detect(street())
    fast = detector(folder).detect(street())
    assert [item.label for item in plain] == [item.label for item in fast]
    for one, other in zip(plain, fast, strict=True):
        assert one.box_px.iou(other.box_px) > 0.95


@pytest.mark.parametrize("kind", ["yolov5", "yolov8"])
def test_boxes_in_pixels_are_not_rescaled(tmp_path: Path, kind: str) -> None:
    folder = foreign_folder(tmp_path, kind)
    pixels = msgspec.structs.replace(manifest.read(folder).decoder, box_unit="pixel")
    found = described(detector(change_manifest(folder, decoder=pixels)).detect(street()))
    # The tiny file gives shares: as pixels of the 64x64 input these are at its very corner.
    assert max(found["car"].x, found["car"].width) < 2


def test_overlapping_candidates_of_one_class_are_merged(tmp_path: Path) -> None:
    """All cells red: 16 boxes that touch stay; with suppression at IoU 0 only touching ones."""
    red = np.full((64, 64, 3), RED, np.uint8)
    folder = foreign_folder(tmp_path, "yolov8")
    assert len(detector(folder).detect(red)) == 16
    decoder = msgspec.structs.replace(manifest.read(folder).decoder, nms_iou=0.0)
    assert 4 <= len(detector(change_manifest(folder, decoder=decoder)).detect(red)) < 16


def test_non_finite_float_outputs_are_replaced() -> None:
    from edge.detector.candidates import as_score, real_values

    spec = TensorSpec(name="x", shape=(3,), dtype="float32", scale=1.0, zero_point=0)
    values = real_values(spec, as_score)(np.array([np.nan, np.inf, -3.0], np.float32))
    assert values.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantized_threshold_never_drops_a_score_at_or_above_it(dtype: str) -> None:
    zero = -128 if dtype == "int8" else 0
    spec = TensorSpec(name="x", shape=(1,), dtype=dtype, scale=1 / 255, zero_point=zero)  # type: ignore[arg-type]
    values = np.arange(256) + zero
    for score in np.linspace(0.01, 1.0, 57):
        reached = values[(values - zero) / 255 >= score]
        assert quantized_level(float(score), spec) == reached.min(initial=255 + zero)


# --- float models: only where the manifest allows them ---


def test_float_outputs_are_refused_unless_the_manifest_allows_float(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, "ssd", allow_float=False)
    with pytest.raises(ModelError, match=r"not integer-only.*import-model"):
        Interpreter.load(folder)


def test_allowed_float_model_warns_once_per_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Interpreter.load(foreign_folder(tmp_path, "ssd"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "model.not_integer_only name=tiny-ssd" in record.message


def test_an_integer_only_foreign_model_does_not_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Interpreter.load(foreign_folder(tmp_path, "yolov5"))
    assert not caplog.records


def test_allow_float_does_not_make_an_unknown_operator_run(tmp_path: Path) -> None:
    folder = change_manifest(refused_folder(tmp_path, "custom.tflite"), allow_float=True)
    with pytest.raises(ModelError, match="runtime refuses it"):
        Interpreter.load(folder)


def test_allowed_float_file_must_still_match_its_certificate(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, "ssd")
    claimed = msgspec.structs.replace(manifest.read(folder).certificate, integer_only=True)
    with pytest.raises(ModelError, match="certificate differs"):
        Interpreter.load(change_manifest(folder, certificate=claimed))


def test_models_command_marks_models_that_are_not_integer_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign_folder(tmp_path, "ssd")
    foreign_folder(tmp_path, "yolov5")
    assert cli.main(["models", "--models-dir", str(tmp_path)]) == EXIT_OK
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "NOT integer-only, allowed" in lines["tiny-ssd"]
    assert " integer-only" in lines["tiny-yolov5"]
    assert "NOT" not in lines["tiny-yolov5"]


@every_kind
def test_infer_runs_a_third_party_model(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "street.png"
    cv2.imwrite(str(picture), street())
    folder = foreign_folder(tmp_path, kind)
    assert cli.main(["infer", str(picture), "--model", str(folder), "--no-color"]) == EXIT_OK
    (entry,) = json.loads(capsys.readouterr().out)
    assert {item["label"] for item in entry["detections"]} == {"person", "car"}


# --- manifests that contradict themselves ---


@pytest.mark.parametrize(
    ("kind", "changes", "part"),
    [
        ("yolov5", {"labels": ("person",)}, "1 classes, but 7 channels"),
        ("yolov5", {"decoder": Decoder(name="yolov8")}, "2 classes, but 7 channels"),
        ("yolov5", {"decoder": Decoder(name="yolov5", channels_first=True)}, "16 channels"),
        ("yolov5", {"decoder": Decoder(name="yolov5", class_ids=(0, 2))}, "3 classes"),
        ("yolov5", {"decoder": Decoder(name="yolov5", class_ids=(0,))}, "but 1 class_ids"),
        ("yolov8", {"decoder": Decoder(name="yolox", strides=(8,))}, "box_8"),
        ("yolov8", {"decoder": Decoder(name="ssd_postprocess")}, "names no output as boxes"),
        ("ssd", {"decoder": Decoder(name="yolov5")}, "reads one of three axes"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, object], part: str
) -> None:
    with pytest.raises(ModelError, match="contradicts itself") as caught:
        Interpreter.load(foreign_folder(tmp_path, kind, **changes))
    assert part in str(caught.value)


def test_yolox_outputs_of_different_cells_contradict_each_other(tmp_path: Path) -> None:
    model = manifest.read(detect_folder(tmp_path))
    box, *others = model.outputs
    odd = msgspec.structs.replace(box, shape=(1, 4, 5, 4))
    fault = contradiction(msgspec.structs.replace(model, outputs=(odd, *others)))
    assert "stride 16 have different numbers of cells" in fault
    assert contradiction(model) == ""


def test_swapped_roles_are_refused(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path, "ssd")
    decoder = manifest.read(folder).decoder
    roles = decoder.roles | {"boxes": decoder.roles["scores"], "scores": decoder.roles["boxes"]}
    change_manifest(folder, decoder=msgspec.structs.replace(decoder, roles=roles))
    with pytest.raises(ModelError, match="do not belong together"):
        Interpreter.load(folder)


# --- input ---


def test_letterbox_writes_floats_for_a_float_input() -> None:
    spec = Input(
        name="x", shape=(1, 8, 8, 3), dtype="float32", scale=1.0, zero_point=0, color_order="rgb",
        resize="stretch", range="-1..1",
    )  # fmt: skip
    view = np.zeros((8, 8, 3), np.float32)
    Letterbox(spec).write(np.full((4, 4, 3), (0, 51, 255), np.uint8), view)
    np.testing.assert_allclose(view[3, 3], (1.0, -0.6, -1.0), atol=1e-6)
