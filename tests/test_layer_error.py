"""The error of each layer: small where int8 suffices, large where a range was chosen badly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flatbuffers")

from torch import nn  # noqa: E402

from edge.errors import EdgeError, ModelError  # noqa: E402
from models import DATA  # noqa: E402
from tools import layer_error  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.quantize import PIXELS, calibrate, trace, write  # noqa: E402

SIDE = 16


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 4, 1)).eval()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(12)]


def errors(
    folder: Path, pictures: list[np.ndarray], factor: float
) -> dict[str, layer_error.LayerError]:
    """Quantize with the second convolution's scale multiplied, by layer."""
    graph = trace(network()).with_shapes((3, SIDE, SIDE))
    ranges = calibrate(graph, pictures, pixels=PIXELS)
    name = graph.nodes[2].name
    ranges[name] = replace(ranges[name], scale=ranges[name].scale * factor)
    write(graph, ranges, folder / "m.tflite")
    found = layer_error.compare_graph(folder / "m.tflite", graph, pictures[:4])
    assert [one.snr_db for one in found] == sorted(one.snr_db for one in found)
    return {one.name: one for one in found}


def test_every_layer_is_compared_with_its_float_counterpart(
    tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    found = errors(tmp_path, pictures, 1.0)
    assert len(found) == 4
    assert found["input"].worst_steps == 0
    assert found["input"].snr_db == layer_error.SILENT_DB
    assert all(one.snr_db > 25 for one in found.values())


def test_too_small_range_is_located(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    found = errors(tmp_path, pictures, 0.1)
    (before, bad) = [one for name, one in found.items() if name.startswith("_")][::-1][:2]
    assert before.snr_db > 25
    assert bad.snr_db < 10
    assert bad.clipped > 0.2
    assert before.clipped < 0.01


def test_too_large_range_costs_six_db_per_bit(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    fine, coarse = (errors(tmp_path, pictures, factor) for factor in (2.0, 16.0))
    drop_db = fine["_2"].snr_db - coarse["_2"].snr_db
    assert 9 < drop_db < 24  # three bits are 18 dB; what comes from before adds to both


def test_error_is_that_of_all_pictures_in_decibels_and_steps() -> None:
    detail = {"quantization": (0.5, 10)}
    sums: dict[str, layer_error._Sum] = {}
    for stored, wanted in (([12, 14], [1.0, 3.0]), ([127, -128], [60.0, -69.25])):
        found = {"a": (np.array(stored, np.int8), detail)}
        layer_error.add(sums, found, {"a": np.array(wanted, np.float32)})
    (one,) = layer_error.finish(sums)
    signal, noise = 1 + 9 + 60**2 + 69.25**2, 1 + 1.5**2 + 0.25**2  # real: 1, 2, 58.5, -69
    assert one == layer_error.LayerError("a", pytest.approx(10 * np.log10(signal / noise)), 3, 0.25)


def test_tensors_that_do_not_correspond_are_left_out() -> None:
    detail = {"quantization": (0.5, 10)}
    map_, bias = np.zeros((2, 3), np.int8), np.zeros(3, np.int32)
    found = {"map": (map_, detail), "bias": (bias, detail), "ids": (map_, detail)}
    wanted = {"map": np.zeros(3), "bias": np.zeros(3), "ids": np.zeros((2, 3), np.int64)}
    sums: dict[str, layer_error._Sum] = {}
    layer_error.add(sums, found, wanted)
    assert not sums


def test_kernels_are_matched_by_their_shape_not_their_size() -> None:
    kernels = np.random.default_rng(1).normal(size=(4, 3, 3, 2))
    sizes = np.array([0.1, 20, 3, 0.5]).reshape(4, 1, 1, 1)
    assert layer_error._match_kernels((kernels * sizes)[::-1], kernels) == [3, 2, 1, 0]


@pytest.mark.parametrize(("dtype", "below"), [(np.uint8, 0), (np.int8, 128)])
def test_levels_are_stored_in_the_type_of_the_input(dtype: type, below: int) -> None:
    picture = np.arange(0, 256, 17, np.uint8)[:12].reshape(2, 2, 3)
    stored = layer_error._quantized_input(picture, {"shape": (1, 2, 2, 3), "dtype": dtype})
    assert stored.dtype == dtype
    assert (stored[0].astype(int) == picture.astype(int) - below).all()


def test_plot_is_a_picture(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    pytest.importorskip("matplotlib")
    found = sorted(errors(tmp_path, pictures, 1.0).values(), key=lambda one: one.snr_db)
    layer_error.plot(found, tmp_path / "plots" / "layers.png", title="test")
    assert (tmp_path / "plots" / "layers.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(EdgeError, match=r"layers\.foo: .* ends in \.png"):
        layer_error.plot(found, tmp_path / "layers.foo", title="test")


def test_files_of_different_networks_are_refused(pictures: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="its own original"):
        layer_error.compare(DATA / "detect.tflite", DATA / "float.tflite", pictures)


def detector_errors(weights: Path) -> dict[str, layer_error.LayerError]:
    folder = DATA.parents[1] / "models" / "yolox-nano-288"
    picture = cv2.imread(str(folder / "golden.jpg"))
    found = layer_error.compare_detector(folder / "model.tflite", weights, [picture])
    return {one.name: one for one in found}


def test_shipped_detector_matches_its_float_weights_and_no_others(tmp_path: Path) -> None:
    torch.manual_seed(1)
    yolox.save(yolox.YoloxNano(), tmp_path / "other.pt", "random")
    own, other = detector_errors(yolox.WEIGHTS), detector_errors(tmp_path / "other.pt")
    assert own.keys() == other.keys()
    assert len(own) > 300
    # A tensor read only by SiLU is clipped at its floor, which the SiLU hides.
    assert min(one.snr_db for one in own.values() if one.clipped < 0.05) > 5
    assert np.median([one.snr_db for one in own.values()]) > 12
    assert np.median([one.snr_db for one in other.values()]) < 3


def test_file_that_is_not_a_yolox_detector_is_refused() -> None:
    file = DATA.parents[1] / "models" / "color-64" / "model.tflite"
    with pytest.raises(ModelError, match="not of our YOLOX-Nano"):
        layer_error.compare_detector(file, yolox.WEIGHTS, [])
