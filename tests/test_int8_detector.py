"""An int8 detector written anew from its file: same numbers, another size, faster operators."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from edge.errors import EXIT_USAGE, EdgeError, InputError, ModelError  # noqa: E402
from edge.interpreter import load_engine  # noqa: E402
from models import detect_folder  # noqa: E402
from tools import int8_detector  # noqa: E402
from tools.architectures import yolox, yolox_graph  # noqa: E402
from tools.cli import main  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.quantize import Calibration, FakeQuantizer, Graph, calibrate, trace, write  # noqa: E402
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
def old(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray) -> Path:
    """Return an int8 model with the operators of older versions, its stem in two groups."""
    folder = tmp_path_factory.mktemp("old") / "old"
    graph = trace(yolox.load(yolox.WEIGHTS, GROUPS)).with_shapes((3, SIZE.height, SIZE.width))
    return written(folder, graph, picture)


def written(folder: Path, graph: Graph, picture: np.ndarray) -> Path:
    ranges = calibrate(graph, [letterboxed(picture, SIZE)])
    training = {"weights": "w", "method": "own", "data": "d"}
    write_model(folder, graph, ranges, facts_of(graph, "old", training, yolox.LABELS))
    return folder


@pytest.fixture
def pictures(tmp_path: Path, picture: np.ndarray) -> list[str]:
    """Return the options that name a training set of one picture."""
    cv2.imwrite(str(tmp_path / "one.png"), picture)
    content = {
        "images": [{"id": 1, "file_name": "one.png", "width": 1, "height": 1}],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    return ["--annotations", str(tmp_path / "train.json"), "--images", str(tmp_path)]


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


def test_model_written_anew_is_the_same_file(old: Path, tmp_path: Path) -> None:
    read = int8_detector.read(old, None)
    assert read.rank == yolox.BLOCK_CHANNELS
    write(read.graph, read.ranges, tmp_path / "anew.tflite")
    assert (tmp_path / "anew.tflite").read_bytes() == (old / "model.tflite").read_bytes()


@pytest.mark.parametrize(("pixels", "rank"), [(288, 8), (352, 12), (480, 8)])
def test_shipped_models_can_be_written_anew_byte_for_byte(
    tmp_path: Path, pixels: int, rank: int
) -> None:
    folder = MODELS / f"yolox-nano-{pixels}"
    read = int8_detector.read(folder, None)
    assert read.rank == rank
    write(read.graph, read.ranges, tmp_path / "anew.tflite")
    assert (tmp_path / "anew.tflite").read_bytes() == (folder / "model.tflite").read_bytes()


def test_faster_model_predicts_nearly_the_same(
    old: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    read = int8_detector.read(old, None)
    images = [letterboxed(picture, SIZE)]
    wanted = outputs(old / "model.tflite", picture)
    for rank, is_near in ((8, True), (2, False)):
        made = int8_detector.faster(read, rank, images, Calibration())
        assert made.rank == rank
        write(made.graph, made.ranges, tmp_path / "made.tflite")
        found = outputs(tmp_path / "made.tflite", picture)
        errors = [np.abs(found[name] - wanted[name]).mean() / wanted[name].std() for name in FINEST]
        assert (max(errors) < 0.5) == is_near, errors


def test_faster_model_keeps_every_range_it_had(old: Path, picture: np.ndarray) -> None:
    read = int8_detector.read(old, None)
    made = int8_detector.faster(read, 8, [letterboxed(picture, SIZE)], Calibration())
    kept = {name: one for name, one in made.ranges.items() if name in read.ranges}
    assert kept.items() <= read.ranges.items()
    added = made.ranges.keys() - read.ranges.keys()
    assert added == {node.name for node in made.graph.nodes} - {
        node.name for node in read.graph.nodes
    }
    assert {yolox_graph.VERTICAL, "neck_merge_fine_deep_0_coarse"} <= added
    again = int8_detector.faster(made, 5, [letterboxed(picture, SIZE)], Calibration())
    assert (again.rank, again.ranges) == (8, made.ranges)


def test_command_changes_the_size_alone_without_pictures(old: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    words = ["quantize", "detect", "--model", str(old), "--output", str(out)]
    assert main([*words, "--size", "64x32"]) == 0
    made = json.loads((out / "manifest.json").read_text())
    assert made["input"]["shape"] == [1, 32, 64, 3]
    assert made["training"]["method"] == "own"
    assert made["labels"] == list(yolox.LABELS)
    assert int8_detector.read(out, None).rank == yolox.BLOCK_CHANNELS


def test_model_written_anew_keeps_its_golden_picture(
    old: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    out = tmp_path / "small"
    words = ["quantize", "detect", "--size", "64x32", "--output", str(out), "--model"]
    cv2.imwrite(str(tmp_path / "street.png"), picture)
    assert main([*words, str(old), "--golden", str(tmp_path / "street.png")]) == 0
    (out / "seen.jpg").write_bytes(b"of the model before")
    assert main([*words, str(old)]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("CARD.md", "golden.png", "manifest.json", "model.tflite")
    }
    cv2.imwrite(str(tmp_path / "street.jpg"), picture)
    assert main([*words, str(out), "--golden", str(tmp_path / "street.jpg")]) == 0
    assert main([*words, str(out)]) == 0
    assert json.loads((out / "manifest.json").read_text())["golden"]["file"] == "golden.jpg"
    assert not (out / "golden.png").exists()


def test_model_of_another_kind_is_not_overwritten(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    shutil.copytree(Path(__file__).parents[1] / "models" / "color-64", there)
    before = (there / "manifest.json").read_bytes()
    assert main(["quantize", "detect", "--model", str(old), "--output", str(there)]) == EXIT_USAGE
    assert "holds color-64, a model of another kind" in capsys.readouterr().err
    assert (there / "manifest.json").read_bytes() == before
    words = ["quantize", "color", "none.pt", "--data", "none", "--output", str(old)]
    assert main(words) == EXIT_USAGE
    assert "(detect, yolox); name another folder" in capsys.readouterr().err


def test_command_makes_a_model_faster_with_pictures(
    old: Path, pictures: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "fast"
    words = ["quantize", "detect", "--model", str(old), "--output", str(out), *pictures]
    assert main([*words, "--stem-rank", "6"]) == 0
    made = json.loads((out / "manifest.json").read_text())
    assert made["input"]["shape"] == [1, SIZE.height, SIZE.width, 3]
    method = "own; stem made separable later, with 6 channels inside"
    assert made["training"]["method"] == method
    read = int8_detector.read(out, None)
    assert read.rank == 6
    write(read.graph, read.ranges, tmp_path / "anew.tflite")
    assert (tmp_path / "anew.tflite").read_bytes() == (out / "model.tflite").read_bytes()


@pytest.mark.parametrize("option", [["--stem-rank", "6"], ["--count", "3"], ["--groups", "2"]])
def test_options_that_need_pictures_are_refused_without(
    old: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quantize", "detect", "--model", str(old), "--output", str(tmp_path / "x"), *option]
    assert main(words) == EXIT_USAGE
    assert f"--model takes no {option[0]}" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_stem_of_version_1_2_is_refused(tmp_path: Path, picture: np.ndarray) -> None:
    graph = detect_state.build(yolox.WEIGHTS, GROUPS, 8, SIZE)
    old, new = yolox_graph.VERTICAL, "backbone_stem_project"
    graph.nodes = [
        replace(
            node,
            name=new if node.name == old else node.name,
            inputs=tuple(new if name == old else name for name in node.inputs),
        )
        for node in graph.nodes
    ]
    graph.weights[new], graph.biases[new] = graph.weights.pop(old), graph.biases.pop(old)
    folder = written(tmp_path / "old", graph, picture)
    with pytest.raises(InputError, match=r"version 1\.2\.0; make it anew"):
        int8_detector.read(folder, None)


def test_ranges_serve_simulation_as_well(old: Path, picture: np.ndarray) -> None:
    read = int8_detector.read(old, None)
    image = torch.from_numpy(letterboxed(picture, SIZE).transpose(2, 0, 1)[None].copy()).float()
    with torch.no_grad():
        simulated = read.graph(image, FakeQuantizer(read.graph, read.ranges))
    written_ones = outputs(old / "model.tflite", picture)
    for name in FINEST:
        made = simulated[name].permute(0, 2, 3, 1).numpy()
        assert np.abs(made - written_ones[name]).mean() < 0.3 * written_ones[name].std(), name


def test_other_models_are_refused(tmp_path: Path) -> None:
    for other in (MODELS / "color-64", detect_folder(tmp_path)):  # its decoder is YOLOX's, too
        with pytest.raises(InputError, match="not a YOLOX-Nano of `edge-tools quantize detect`"):
            int8_detector.read(other, None)
    shutil.copytree(SHIPPED, tmp_path / "cut")
    (tmp_path / "cut" / "model.tflite").write_bytes(b"no model")
    for folder in (tmp_path / "cut", tmp_path / "none"):
        with pytest.raises(EdgeError) as refused:
            int8_detector.read(folder, None)
        assert isinstance(refused.value, ModelError)
        assert "\n" not in str(refused.value)


def test_checkpoint_and_model_together_are_a_usage_error(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(old), "--checkpoint", "c.pt", "--output", str(tmp_path / "x")]
    with pytest.raises(SystemExit):
        main(["quantize", "detect", *words])
    assert "not allowed with argument" in capsys.readouterr().err
