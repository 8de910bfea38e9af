"""The detector's graph for quantization: a separable stem, convolutions before upsampling."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("rich")

from edge.errors import InputError  # noqa: E402
from edge.values import Image  # noqa: E402
from tools import tensor_file, tracking  # noqa: E402
from tools.architectures import yolox, yolox_graph  # noqa: E402
from tools.architectures.separable import patch_covariance, separate  # noqa: E402
from tools.architectures.yolox import BLOCK_CHANNELS  # noqa: E402
from tools.input_size import InputSize  # noqa: E402
from tools.quantize import FakeQuantizer, Graph, calibrate, trace  # noqa: E402
from tools.quantize.ranges import PIXELS, batches  # noqa: E402
from tools.train import detect_state  # noqa: E402
from tools.train.detect_state import DetectTraining  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "models" / "yolox-nano-288" / "golden.jpg"
WHOLE = [list(range(yolox.STEM_CHANNELS))]
SIZE = InputSize(384, 288)
STEM = "backbone_stem_branches_0_0_0"  # its first convolution, with ReLU


@pytest.fixture(scope="module")
def picture() -> Image:
    return np.asarray(cv2.imread(str(GOLDEN))[: SIZE.height, : SIZE.width], np.uint8)


@pytest.fixture(scope="module")
def batch(picture: Image) -> torch.Tensor:
    (one,) = batches([picture], PIXELS, 1)
    return one


@torch.no_grad()
def tensor(graph: Graph, name: str, batch: torch.Tensor) -> torch.Tensor:
    graph.outputs = {name: name}
    return graph(batch)[name]


def graph_of(rank: int, picture: Image | None = None) -> Graph:
    images = [] if picture is None else [picture]
    return detect_state.build(yolox.WEIGHTS, WHOLE, rank, SIZE, images)


def error(rank: int, batch: torch.Tensor, picture: Image | None) -> float:
    """Return the mean share of a stem channel's variance that a separable stem misses."""
    wanted = tensor(graph_of(BLOCK_CHANNELS), STEM, batch)
    found = tensor(graph_of(rank, picture), STEM, batch)
    return float(((found - wanted).square().mean((0, 2, 3)) / wanted.var((0, 2, 3))).mean())


def test_eight_channels_inside_keep_what_the_stem_reads(
    batch: torch.Tensor, picture: Image
) -> None:
    fitted = error(DetectTraining.rank, batch, picture)
    assert fitted < 0.01
    assert error(4, batch, picture) > 10 * fitted
    assert error(DetectTraining.rank, batch, None) > 3 * fitted  # fitted to noise, not to pictures


def test_channels_inside_are_as_strong_as_each_other(batch: torch.Tensor, picture: Image) -> None:
    made = tensor(graph_of(8, picture), yolox_graph.VERTICAL, batch)
    deviations = made.std((0, 2, 3))
    assert float(deviations.max() / deviations.min()) < 1.3


def test_separable_kernels_are_found_exactly() -> None:
    torch.manual_seed(3)
    kernels = torch.einsum("nrw,rch->nchw", torch.randn(6, 2, 3), torch.randn(2, 5, 3))
    vertical, horizontal = separate(kernels, 2)
    assert vertical.shape == (2, 5, 3, 1)
    assert horizontal.shape == (6, 2, 1, 3)
    made = torch.einsum("nrw,rch->nchw", horizontal[:, :, 0], vertical[..., 0])
    torch.testing.assert_close(made, kernels, atol=1e-4, rtol=1e-4)


def test_small_kernels_count_as_much_as_large_ones() -> None:
    large, small = torch.zeros(2, 3, 1, 1)
    large[0], large[1], small[2] = 100.0, 100.0, 0.01
    vertical, horizontal = separate(torch.stack([large, small]), 2)
    made = torch.einsum("rw,rch->chw", horizontal[1, :, 0], vertical[..., 0])
    torch.testing.assert_close(made, small, atol=1e-5, rtol=1e-3)


def test_values_that_always_agree_need_one_channel() -> None:
    same = torch.randn(1, 1, 40, 40, generator=torch.manual_seed(1)).expand(1, 4, 40, 40)
    covariance = patch_covariance([same], 1)
    kernels = torch.randn(5, 4, 1, 1, generator=torch.manual_seed(2))
    vertical, horizontal = separate(kernels, 1, covariance)
    made = torch.einsum("nr,rc->nc", horizontal[:, :, 0, 0], vertical[:, :, 0, 0])
    torch.testing.assert_close(made.sum(1), kernels.sum((1, 2, 3)), atol=1e-4, rtol=1e-4)


def test_all_groups_of_a_split_stem_read_one_vertical_convolution(
    batch: torch.Tensor, picture: Image
) -> None:
    groups = [list(range(5)), list(range(5, 16))]
    split = detect_state.build(yolox.WEIGHTS, groups, 8, SIZE, [picture])
    assert [node.name for node in split.nodes].count(yolox_graph.VERTICAL) == 1
    with torch.no_grad():
        wanted, found = graph_of(8, picture)(batch), split(batch)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-2, rtol=1e-2)


def test_convolving_before_upsampling_changes_nothing(batch: torch.Tensor) -> None:
    plain = trace(yolox.load(yolox.WEIGHTS)).with_shapes((3, SIZE.height, SIZE.width))
    graph = graph_of(BLOCK_CHANNELS)
    resized = [node for node in graph.nodes if node.kind == "resize"]
    assert len(resized) == 4
    assert all(node.name.endswith("_upsampled") for node in resized)
    with torch.no_grad():
        wanted, found = plain(batch), graph(batch)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-4)


def test_changed_graph_has_the_shapes_of_its_tensors(picture: Image) -> None:
    graph = graph_of(8, picture)
    again = graph.with_shapes((3, SIZE.height, SIZE.width))
    assert [node.shape for node in again.nodes] == [node.shape for node in graph.nodes]


def test_changed_graph_can_be_trained_through_int8(batch: torch.Tensor, picture: Image) -> None:
    graph = graph_of(8, picture)
    ranges = calibrate(graph, [picture])
    sum(one.sum() for one in graph(batch, FakeQuantizer(graph, ranges)).values()).backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in graph.parameters())


def test_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    graph = trace(yolox.load(yolox.WEIGHTS)).with_shapes((3, 64, 64))
    weights_sha256 = tracking.hash_of([yolox.WEIGHTS])
    config = DetectTraining(size=InputSize(64, 64), groups=1, weights_sha256=weights_sha256)
    stored = detect_state.as_params(config) | {"size": [64, 64]}
    path = tmp_path / "checkpoint.pt"
    content = {"config": stored, "groups": WHOLE, "ranges": {}, "step": 3}
    tensor_file.write(content | {"average": graph.state_dict()}, path)
    with pytest.raises(InputError, match="by another version of edge-tools; train again to"):
        detect_state.trained(path, yolox.WEIGHTS, config.size)


@pytest.mark.parametrize(
    ("rank", "words"), [(8, "stem in one, separable, with 8 channels inside"), (12, "stem in one")]
)
def test_manifest_says_what_became_of_the_stem(rank: int, words: str) -> None:
    assert detect_state.stem_text(1, rank) == words


def test_file_with_another_stem_is_refused(tmp_path: Path) -> None:
    content = torch.load(yolox.WEIGHTS, weights_only=True)
    content["convolutions"][0] = (torch.zeros(16, 3, 3, 3), torch.zeros(16))
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=r"\(16, 3, 3, 3\), not YOLOX-Nano's \(16, 12, 3, 3\)"):
        yolox.load(path)
