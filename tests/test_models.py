"""Every model that ships: integer-only, the file its manifest names, and its golden results."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edge import certificate, manifest
from edge.color import TERMS
from edge.config import ColorConfig, DetectorConfig
from edge.interpreter import Interpreter
from tools import golden

MODELS = Path(__file__).parent.parent / "models"
FOLDERS = sorted(path for path in MODELS.iterdir() if path.is_dir())
assert FOLDERS, "no model ships with edge"
DETECTORS = [folder for folder in FOLDERS if manifest.read(folder).task == "detect"]
COLORS = [folder for folder in FOLDERS if manifest.read(folder).task == "color"]
MAX_COLOR_PARAMETERS = 1_000_000
DETECTOR_LABELS = (
    "person", "bicycle", "car", "motorcycle", "bus", "truck", "bird", "cat", "dog",
)  # fmt: skip

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_default_config_names_shipped_models():
    names = {folder.name for folder in FOLDERS}
    assert DetectorConfig().model in names
    assert ColorConfig().model in names
    assert DETECTORS
    assert COLORS


@every_folder
def test_no_tensor_is_float(folder: Path):
    graph = certificate.read_graph((folder / "model.tflite").read_bytes())
    assert {tensor.dtype for tensor in graph.tensors} <= {"int8", "uint8", "int16", "int32", "bool"}
    assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} <= {"int8", "uint8"}
    assert certificate.violations(graph) == []
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(graph.operators)


@every_folder
def test_engine_has_no_float_tensor_either(folder: Path):
    loaded = Interpreter.load(folder, xnnpack=False)
    kinds = {np.dtype(detail["dtype"]).kind for detail in loaded._engine.get_tensor_details()}
    assert kinds <= {"i", "u", "b"}


@every_folder
def test_hash_and_certificate_are_those_of_the_file(folder: Path):
    model = manifest.read(folder)
    content = (folder / model.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == model.sha256
    assert certificate.certify(folder / model.file) == model.certificate
    assert model.certificate.integer_only
    assert not model.allow_float
    assert model.name == folder.name


@every_folder
def test_manifest_has_provenance_and_accuracy(folder: Path):
    model = manifest.read(folder)
    assert model.licence
    assert model.training
    assert model.accuracy
    assert all(figure.command for figure in model.accuracy)
    assert model.golden is not None
    card = (folder / "CARD.md").read_text()
    assert model.name in card
    assert "licen" in card.lower()
    for text in (card, (folder / "manifest.json").read_text()):
        assert str(Path(__file__).parents[1]) not in text


@every_folder
def test_card_is_of_this_version_and_has_the_recorded_commands(folder: Path):
    model = manifest.read(folder)
    card = (folder / "CARD.md").read_text()
    assert card.startswith(f"# {model.name} {model.version}\n\n")
    assert model.training.get("commands", "") in card
    assert " --out " not in card
    assert "\n\n\n" not in card


def figure(folder: Path, metric: str, dataset: str) -> float:
    """Return a measured figure; its dataset's name may go on with the number of pictures."""
    found = [
        item.value
        for item in manifest.read(folder).accuracy
        if item.metric == metric and item.dataset.startswith(dataset)
    ]
    assert len(found) == 1, f"{folder.name}: {metric} on {dataset}"
    return found[0]


@pytest.mark.parametrize("folder", DETECTORS, ids=lambda folder: folder.name)
def test_detectors_reach_their_target(folder: Path):
    model = manifest.read(folder)
    assert model.labels == DETECTOR_LABELS
    assert figure(folder, "AP50", "detection/val") >= 0.47


@pytest.mark.parametrize("folder", COLORS, ids=lambda folder: folder.name)
def test_color_models_reach_their_target(folder: Path):
    model = manifest.read(folder)
    assert model.labels == TERMS
    assert model.parameters <= MAX_COLOR_PARAMETERS
    assert figure(folder, "top-1", "color val") >= 0.70


@pytest.mark.parametrize("xnnpack", [True, False], ids=["xnnpack", "builtin"])
@every_folder
def test_golden_picture_gives_the_expected_result(folder: Path, xnnpack: bool):
    assert golden.differences(folder, xnnpack=xnnpack) == []


@every_folder
def test_golden_result_is_not_trivial(folder: Path):
    expected = manifest.read(folder).golden
    assert expected is not None
    assert len(expected.detections) >= 2 or len(expected.shares) == len(TERMS)
