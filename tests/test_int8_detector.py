"""An int8 detector written anew from its file: same numbers, another size, a projected stem."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from edge.errors import EdgeError, InputError, ModelError  # noqa: E402
from edge.interpreter import load_engine  # noqa: E402
from models import detect_folder  # noqa: E402
from tools import int8_detector  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.cli import main  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.quantize import FakeQuantizer, calibrate, write  # noqa: E402
from tools.quantize_detect import facts_of, letterboxed, write_model  # noqa: E402
from tools.train import detect_state  # noqa: E402

MODELS = Path(__file__).parents[1] / "models"
SHIPPED = MODELS / "yolox-nano-288"
SIZE = InputSize(96, 64)
GROUPS = [list(range(6)), list(range(6, 16))]
FINEST = ("box_8", "objectness_8", "class_8")  # the most cells, so the steadiest figures
Outputs = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return cv2.imread(str(SHIPPED / "golden.jpg"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray) -> Path:
    """Return an int8 model whose stem is in two groups and not projected."""
    folder = tmp_path_factory.mktemp("whole") / "whole"
    graph = detect_state.build(yolox.WEIGHTS, GROUPS, yolox.BLOCK_CHANNELS, SIZE)
    ranges = calibrate(graph, [letterboxed(picture, SIZE)])
    write_model(
        folder,
        graph,
        ranges,
        facts_of(graph, "whole", {"weights": "w", "method": "own", "data": "d"}, yolox.LABELS),
    )
    return folder


def outputs(file: Path, picture: np.ndarray) -> Outputs:
    """Return the real outputs for a picture, by name."""
    engine = load_engine(file.read_bytes(), file, xnnpack=False)
    (given,) = engine.get_input_details()
    _, height, width, _ = given["shape"]
    image = letterboxed(picture, InputSize(int(width), int(height))).astype(np.int16) - 128
    engine.allocate_tensors()
    engine.set_tensor(given["index"], image[None].astype(np.int8))
    engine.invoke()
    made = {}
    for one in engine.get_output_details():
        scale, zero = one["quantization"]
        made[one["name"]] = (engine.get_tensor(one["index"]).astype(np.float32) - zero) * scale
    return made


def test_model_written_anew_is_the_same_file(whole: Path, tmp_path: Path) -> None:
    read = int8_detector.read(whole, None, yolox.BLOCK_CHANNELS)
    assert not read.is_newly_projected
    write(read.graph, read.ranges, tmp_path / "anew.tflite")
    assert (tmp_path / "anew.tflite").read_bytes() == (whole / "model.tflite").read_bytes()


@pytest.mark.parametrize(("pixels", "rank"), [(288, 8), (352, 12), (480, 8)])
def test_shipped_models_can_be_written_anew_byte_for_byte(
    tmp_path: Path, pixels: int, rank: int
) -> None:
    folder = MODELS / f"yolox-nano-{pixels}"
    read = int8_detector.read(folder, None, rank)
    write(read.graph, read.ranges, tmp_path / "anew.tflite")
    assert (tmp_path / "anew.tflite").read_bytes() == (folder / "model.tflite").read_bytes()


def test_projected_model_predicts_nearly_the_same(
    whole: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    read = int8_detector.read(whole, None, 8)
    assert read.is_newly_projected
    write(read.graph, read.ranges, tmp_path / "projected.tflite")
    wanted = outputs(whole / "model.tflite", picture)
    made = outputs(tmp_path / "projected.tflite", picture)
    for name in FINEST:
        assert np.abs(made[name] - wanted[name]).mean() < 0.3 * wanted[name].std(), name
    coarse = int8_detector.read(whole, None, 3)
    write(coarse.graph, coarse.ranges, tmp_path / "coarse.tflite")
    far = outputs(tmp_path / "coarse.tflite", picture)
    assert np.abs(far["class_8"] - wanted["class_8"]).mean() > 0.3 * wanted["class_8"].std()


def test_projection_is_never_clipped(whole: Path) -> None:
    read = int8_detector.read(whole, None, 8)
    quantization = read.ranges["backbone_stem_project"]
    rows = read.graph.weights["backbone_stem_project"][:, :, 0, 0].detach()
    extreme = torch.where(rows > 0, 255.0, 0.0)
    made = (rows * extreme).sum(1).max(), (rows * (255 - extreme)).sum(1).min()
    assert float(made[0]) <= quantization.high + quantization.scale
    assert float(made[1]) >= quantization.low - quantization.scale


def test_command_changes_size_and_stem_and_records_it(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    words = ["quantize", "detect", "--model", str(whole), "--output", str(out)]
    assert main([*words, "--size", "64x32"]) == 0
    made = json.loads((out / "manifest.json").read_text())
    assert made["input"]["shape"] == [1, 32, 64, 3]
    assert made["training"]["method"] == "own; its stem's input projected to 8 channels later"
    assert made["labels"] == list(yolox.LABELS)
    assert main([*words, "--stem-rank", "12"]) == 0
    made = json.loads((out / "manifest.json").read_text())
    assert made["input"]["shape"] == [1, 64, 96, 3]
    assert made["training"]["method"] == "own"


def test_ranges_serve_simulation_as_well(whole: Path, picture: np.ndarray) -> None:
    read = int8_detector.read(whole, None, yolox.BLOCK_CHANNELS)
    image = torch.from_numpy(letterboxed(picture, SIZE).transpose(2, 0, 1)[None].copy()).float()
    with torch.no_grad():
        simulated = read.graph(image, FakeQuantizer(read.graph, read.ranges))
    written = outputs(whole / "model.tflite", picture)
    for name in FINEST:
        made = simulated[name].permute(0, 2, 3, 1).numpy()
        assert np.abs(made - written[name]).mean() < 0.3 * written[name].std(), name


def test_stem_projected_to_another_rank_is_refused() -> None:
    with pytest.raises(InputError, match="projected to 8 channels; --stem-rank 8"):
        int8_detector.read(SHIPPED, None, 12)


def test_other_models_are_refused(tmp_path: Path) -> None:
    for other in (MODELS / "color-64", detect_folder(tmp_path)):  # its decoder is YOLOX's, too
        with pytest.raises(InputError, match="not a YOLOX-Nano of `edge-tools quantize detect`"):
            int8_detector.read(other, None, 8)
    shutil.copytree(SHIPPED, tmp_path / "cut")
    (tmp_path / "cut" / "model.tflite").write_bytes(b"no model")
    for folder in (tmp_path / "cut", tmp_path / "none"):
        with pytest.raises(EdgeError) as refused:
            int8_detector.read(folder, None, 8)
        assert isinstance(refused.value, ModelError)
        assert "\n" not in str(refused.value)


def test_checkpoint_and_model_together_are_a_usage_error(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(whole), "--checkpoint", "c.pt", "--output", str(tmp_path / "x")]
    with pytest.raises(SystemExit):
        main(["quantize", "detect", *words])
    assert "not allowed with argument" in capsys.readouterr().err
