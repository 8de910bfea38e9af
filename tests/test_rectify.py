"""A stem with a ReLU in place of its first SiLU: close fit, one range, no further operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from torch.nn import functional  # noqa: E402

from tools.architectures import yolox  # noqa: E402
from tools.quantize import trace  # noqa: E402
from tools.quantize.ranges import PIXELS, batches  # noqa: E402
from tools.train import rectify  # noqa: E402


def error(values: torch.Tensor) -> float:
    """Return the share of SiLU's variance on these values that the fit does not explain."""
    gain, knee, offset = rectify.fit_relu(values)
    wanted = functional.silu(values)
    left = gain * (values - knee).clamp(min=0) + offset - wanted
    return float(left.square().mean() / wanted.var())


@pytest.mark.parametrize("spread", [0.1, 30.0])
def test_small_and_large_values_are_approximated_closely(spread: float) -> None:
    torch.manual_seed(2)
    assert error(torch.randn(20_000) * spread) < 0.02


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    source = np.random.default_rng(5)
    coarse = source.integers(0, 256, (8, 8, 10, 3), np.uint8)
    return [picture.repeat(8, 0).repeat(8, 1) for picture in coarse]


@pytest.fixture(scope="module")
def original() -> yolox.YoloxNano:
    torch.manual_seed(6)
    return yolox.YoloxNano().eval()


@pytest.fixture(scope="module")
def made(original: yolox.YoloxNano, images: list[np.ndarray]) -> yolox.YoloxNano:
    return rectify.rectified(original, images, steps=100)


@torch.no_grad()
def test_rectified_stem_approximates_the_original(
    original: yolox.YoloxNano, made: yolox.YoloxNano, images: list[np.ndarray]
) -> None:
    (batch,) = batches(images, PIXELS, 8)
    wanted, found = original.backbone.stem(batch), made.backbone.stem(batch)
    left = (found - wanted).square().mean((0, 2, 3)) / wanted.var((0, 2, 3))
    assert left.median() < 0.02
    assert left.max() < 0.2


@torch.no_grad()
def test_all_channels_have_one_range(made: yolox.YoloxNano, images: list[np.ndarray]) -> None:
    (batch,) = batches(images, PIXELS, 8)
    stem = made.backbone.stem
    largest = stem.branches[0][0](stem.rearrange(batch)).amax((0, 2, 3))
    assert largest.numpy() == pytest.approx(1.0, abs=1e-3)


def test_first_convolution_needs_no_additional_operator(
    original: yolox.YoloxNano, made: yolox.YoloxNano
) -> None:
    plain, rectified = (trace(net).nodes for net in (original, made))
    assert len(plain) - len(rectified) == 2  # LOGISTIC and MUL
    first = next(node for node in rectified if node.kind == "conv")
    assert first.activation == "relu"


def test_weights_file_records_the_rectified_stem(made: yolox.YoloxNano, tmp_path: Path) -> None:
    path = tmp_path / "made.pt"
    yolox.save(made, path, "rectified")
    assert yolox.is_rectified(path)
    value = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        for name, wanted in made(value).items():
            assert torch.equal(yolox.load(path)(value)[name], wanted)
