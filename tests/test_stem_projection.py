"""The projection of the detector's first layer to fewer channels: its error, basis and options."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from edge.errors import InputError  # noqa: E402
from tools import tensor_file  # noqa: E402
from tools.architectures import yolox  # noqa: E402
from tools.architectures.projection import project_kernels  # noqa: E402
from tools.architectures.yolox import BLOCK_CHANNELS  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.quantize.ranges import PIXELS, batches  # noqa: E402
from tools.train import detect_state  # noqa: E402
from tools.train.detect_state import DetectTraining  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "models" / "yolox-nano-288" / "golden.jpg"
WHOLE = [list(range(yolox.STEM_CHANNELS))]
SIZE = InputSize(64, 64)


@pytest.fixture
def value() -> torch.Tensor:
    (batch,) = batches([cv2.imread(str(GOLDEN))[:288, :384]], PIXELS, 1)
    return batch


@torch.no_grad()
def error(value: torch.Tensor, rank: int) -> float:
    """Return the largest share of a stem channel's variance that a projection to `rank` misses."""
    wanted, found = (
        yolox.load(yolox.WEIGHTS, rank=one).backbone.stem(value) for one in (BLOCK_CHANNELS, rank)
    )
    return float(((found - wanted).square().mean((0, 2, 3)) / wanted.var((0, 2, 3))).max())


def test_eight_channels_keep_what_the_stem_reads(value: torch.Tensor) -> None:
    assert error(value, DetectTraining.rank) < 0.01
    assert error(value, 4) > 1


@torch.no_grad()
def test_projected_channels_are_like_pixels(value: torch.Tensor) -> None:
    stem = yolox.load(yolox.WEIGHTS, rank=8).backbone.stem
    blocks = stem.rearrange(value)
    made = stem.project(blocks)
    assert made.abs().max() <= blocks.max() + 1e-3
    assert (made.amax((0, 2, 3)) - made.amin((0, 2, 3))).min() > 50
    rows = stem.project.weight[:, :, 0, 0]
    assert rows.abs().sum(1).numpy() == pytest.approx(1.0, abs=1e-5)
    alone = (rows.abs() > 1e-5).sum(0) == 1  # channels of the block that one row alone reads
    assert int(alone.sum()) >= 8


def test_kernels_of_low_rank_are_found_exactly() -> None:
    torch.manual_seed(3)
    kernels = torch.einsum("nrhw,rc->nchw", torch.randn(6, 2, 3, 3), torch.randn(2, 5))
    projection, reading = project_kernels(kernels, 2)
    assert projection.shape == (2, 5, 1, 1)
    assert reading.shape == (6, 2, 3, 3)
    torch.testing.assert_close(
        torch.einsum("nrhw,rc->nchw", reading, projection[:, :, 0, 0]), kernels
    )


def test_small_kernels_count_as_much_as_large_ones() -> None:
    large, small = torch.zeros(2, 3, 1, 1)
    large[0], large[1], small[2] = 100.0, 100.0, 0.01
    projection, reading = project_kernels(torch.stack([large, small]), 2)
    torch.testing.assert_close(reading[1, :, 0, 0] @ projection[:, :, 0, 0], small[:, 0, 0])


def test_quantized_graph_is_projected_unless_told_otherwise() -> None:
    for rank, convolutions in ((8, 1), (BLOCK_CHANNELS, 0)):
        graph = detect_state.build(yolox.WEIGHTS, WHOLE, rank, SIZE)
        made = [node for node in graph.nodes if node.name == "backbone_stem_project"]
        assert len(made) == convolutions
        assert graph.weights["backbone_stem_branches_0_0_0"].shape == (16, rank, 3, 3)


def test_projection_serves_all_groups_of_a_split_stem(value: torch.Tensor) -> None:
    groups = [list(range(5)), list(range(5, 16))]
    with torch.no_grad():
        whole = yolox.load(yolox.WEIGHTS, rank=8).backbone.stem(value)
        split = yolox.load(yolox.WEIGHTS, groups, rank=8).backbone.stem(value)
    torch.testing.assert_close(split, whole, atol=1e-3, rtol=1e-3)


def test_checkpoint_from_before_the_projection_keeps_its_stem(tmp_path: Path) -> None:
    graph = detect_state.build(yolox.WEIGHTS, WHOLE, BLOCK_CHANNELS, SIZE)
    config = DetectTraining(size=SIZE, groups=1)
    stored = detect_state.as_params(config) | {"size": list(SIZE)}
    del stored["rank"]
    path = tmp_path / "checkpoint.pt"
    content = {
        "config": stored,
        "groups": WHOLE,
        "ranges": {},
        "average": graph.state_dict(),
        "step": 3,
    }
    tensor_file.write(content, path)
    made = detect_state.trained(path, yolox.WEIGHTS, SIZE)
    assert made.config.rank == BLOCK_CHANNELS
    assert "backbone_stem_project" not in made.graph.weights
    assert "projected" not in detect_state.described(made.config, 3)["method"]
    assert "projected to 8 channels" in detect_state.described(config, 3)["method"]


def test_projected_network_is_not_saved_as_float_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whole stem"):
        yolox.save(yolox.load(yolox.WEIGHTS, rank=8), tmp_path / "made.pt", "projected")


def test_file_with_another_stem_is_refused(tmp_path: Path) -> None:
    content = torch.load(yolox.WEIGHTS, weights_only=True)
    content["convolutions"][0] = (torch.zeros(16, 3, 3, 3), torch.zeros(16))
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=r"\(16, 3, 3, 3\), not YOLOX-Nano's \(16, 12, 3, 3\)"):
        yolox.load(path, rank=8)
