"""The float network in ONNX Runtime gives the results of the daemon's detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import manifest, model_store
from edge.config import DetectorConfig
from onnx_network import BOX_PX, OBJECTNESS, PERSON, write_network
from tools.yolox_onnx import YoloxOnnx, write_at_size

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT.parent / "shared" / "weights" / "yolox_nano.onnx"


def detector(source: Path, folder: Path, side_px: int, min_score: float) -> YoloxOnnx:
    model = manifest.read(model_store.find(DetectorConfig().model))
    write_at_size(source, (side_px, side_px), folder / "sized.onnx")
    return YoloxOnnx(folder / "sized.onnx", model, min_score=min_score)


def test_boxes_are_decoded_suppressed_and_scaled_to_the_frame(tmp_path: Path):
    """Of 5 x 5 cells neighbors overlap by .6 of their union, those on a diagonal by .39."""
    network = write_network(tmp_path / "network.onnx")
    frame = np.zeros((320, 320, 3), np.uint8)  # twice the input
    found = detector(network, tmp_path, 160, 0.5).detect(frame)
    assert [one.label for one in found] == ["person"] * 13
    assert [one.score for one in found] == pytest.approx([OBJECTNESS * PERSON] * 13)
    boxes = {tuple(round(side) for side in one.box_px) for one in found}
    assert (160 - BOX_PX, 160 - BOX_PX, 2 * BOX_PX, 2 * BOX_PX) in boxes  # of the middle cell
    assert (0, 0, 160, 160) in boxes  # of the first cell, cut to the frame
    assert detector(network, tmp_path, 160, 0.75).detect(frame) == []


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the published weights are not here")
def test_published_network_finds_what_pytorch_finds(tmp_path: Path):
    float_detector = pytest.importorskip("tools.float_detector")
    from tools.input_size import InputSize

    bgr = cv2.imread(str(next((ROOT / "models").glob("yolox-nano-*/golden.jpg"))))
    found = detector(WEIGHTS, tmp_path, 256, 0.3).detect(bgr)
    wanted = float_detector.FloatDetector(WEIGHTS, InputSize(256, 256), min_score=0.3).detect(bgr)
    assert len(found) == len(wanted) > 2
    for one, other in zip(found, wanted, strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.box_px == pytest.approx(other.box_px, abs=0.1)
