"""The modules of `tools.quantize.graph`: the .tflite file against torch, and its operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from disk import full_disk  # noqa: E402
from tools.quantize import convolve_before_upsampling, export, trace  # noqa: E402
from tools.quantize.graph import Channels, FirstPixel, HalvingConv2d  # noqa: E402
from written_networks import answers, packed  # noqa: E402


class OfFirstPixel(nn.Module):
    """Values of the first pixel's last channels, added to a convolution of the first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Sequential(Channels(0, 1), nn.Conv2d(1, 8, 3, padding=1))
        self.values = nn.Sequential(FirstPixel(), Channels(1, 3), nn.Conv2d(2, 8, 1))

    def forward(self, value: Tensor) -> Tensor:
        added: Tensor = self.map(value) + self.values(value)
        return added


NETS: dict[str, Callable[[], nn.Module]] = {
    "halving": lambda: nn.Sequential(HalvingConv2d(3, 8, 3), nn.ReLU6()),
    "halving_5x5_depthwise": lambda: nn.Sequential(HalvingConv2d(3, 3, 5, groups=3)),
    "halving_with_norm": lambda: nn.Sequential(HalvingConv2d(3, 8, 3), nn.BatchNorm2d(8)),
    "channels": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), Channels(2, 7)),
    "first_pixel": OfFirstPixel,
    "depthwise_with_two_kernels_a_channel": lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3),
}


@pytest.mark.parametrize("shape", [(16, 24), (15, 21)])
@pytest.mark.parametrize("name", NETS)
def test_file_agrees_with_torch(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(3)
    found, simulated, exact, step = answers(NETS[name]().eval(), shape, tmp_path)
    assert np.abs(found - simulated).max() <= 2.01 * step
    assert np.abs(found - exact).mean() <= 2 * step


class Neck(nn.Module):
    """A coarse map, upsampled, and a fine one, which a convolution reads together."""

    def __init__(self, shown: str, kernel: int) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 2, 2)
        self.up, self.joined = nn.Upsample(scale_factor=2), nn.Conv2d(9, 6, 1)
        self.other = nn.Conv2d(9, 2, kernel)
        self.shown = shown

    def forward(self, value: Tensor) -> dict[str, Tensor]:
        up = self.up(self.coarse(value))
        both = torch.cat([up, self.fine(value)], 1)
        made = {
            "up": up,
            "both": both,
            "joined": torch.relu(self.joined(both)),
            "other": self.other(both),
        }
        return {name: made[name] for name in ("joined", "other", self.shown)}


@pytest.mark.parametrize(
    ("shown", "kernel", "is_split"),
    [("joined", 1, True), ("up", 1, True), ("both", 1, False), ("joined", 3, False)],
)
def test_convolution_comes_before_upsampling_only_where_that_is_the_same(
    shown: str, kernel: int, is_split: bool
) -> None:
    graph = trace(Neck(shown, kernel).eval()).with_shapes((3, 8, 12))
    split = convolve_before_upsampling(graph)
    assert any(node.kind == "concat" for node in split.nodes) is not is_split
    value = torch.rand(1, 3, 8, 12)
    wanted, found = graph(value), split(value)
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one)


def test_halving_needs_no_padding_operator_for_even_sides(tmp_path: Path) -> None:
    image = np.random.default_rng(5).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    torch_padded = nn.Conv2d(3, 8, 3, 2, 1)
    operators = []
    for number, net in enumerate((HalvingConv2d(3, 8, 3), torch_padded)):
        path = tmp_path / f"{number}.tflite"
        export(net, [image], path, (3, 16, 24))
        operators.append(packed(tmp_path / str(number), path).manifest.certificate.operators)
    assert operators == [{"CONV_2D": 1}, {"CONV_2D": 1, "PAD": 1}]


def test_full_disk_leaves_the_former_file_and_names_it(tmp_path: Path) -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    path = tmp_path / "model.tflite"
    export(nn.Conv2d(3, 8, 3), [image], path, (3, 16, 24))
    former = path.read_bytes()
    with pytest.raises(OSError, match=r"model\.tflite"), full_disk(100):
        export(nn.Conv2d(3, 16, 3), [image], path, (3, 16, 24))
    assert path.read_bytes() == former
