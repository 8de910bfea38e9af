"""The modules of `tools.quantize.graph`: the .tflite file against torch, and its operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from disk import full_disk  # noqa: E402
from tools.quantize import export  # noqa: E402
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
