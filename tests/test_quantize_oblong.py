"""Nets that treat rows and columns differently: the written file agrees with the simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edge.interpreter import Interpreter  # noqa: E402
from tools.quantize import SpaceToDepth, export  # noqa: E402
from written_networks import answers, packed  # noqa: E402

SHAPE = (16, 24)
POINTWISE = (3, 8, 1)
NETS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(3, 8, (3, 5), (1, 2), (1, 2)),
    "conv_same": lambda: nn.Conv2d(3, 8, (3, 5), 1, (1, 2)),
    "conv_padded_one_way": lambda: nn.Conv2d(3, 8, (3, 1), 2, (1, 0)),
    "depthwise": lambda: nn.Conv2d(3, 3, (5, 3), (2, 1), (2, 1), groups=3),
    "max_pool": lambda: nn.Sequential(nn.Conv2d(*POINTWISE), nn.MaxPool2d((2, 3), (2, 3))),
    "max_pool_same": lambda: nn.Sequential(nn.Conv2d(*POINTWISE), nn.MaxPool2d((3, 5), 1, (1, 2))),
    "average_pool": lambda: nn.Sequential(nn.Conv2d(*POINTWISE), nn.AvgPool2d((2, 4), (2, 4))),
    "pad": lambda: nn.Sequential(nn.Conv2d(*POINTWISE), nn.ZeroPad2d((1, 1, 2, 2))),
    "space_to_depth": lambda: nn.Sequential(SpaceToDepth(2), nn.Conv2d(12, 8, 1)),
    "resize": lambda: nn.Sequential(nn.Conv2d(*POINTWISE), nn.Upsample(scale_factor=2)),
    "mean": lambda: nn.Sequential(nn.Conv2d(*POINTWISE), nn.AdaptiveAvgPool2d(1)),
}


def written_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of tensors by name, as the file has them before an engine works them out."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    tensors = [graph.Tensors(place) for place in range(graph.TensorsLength())]
    return {one.Name().decode(): one.ShapeAsNumpy().tolist() for one in tensors}


@pytest.mark.parametrize("name", NETS)
def test_an_oblong_net_agrees_with_its_simulation(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    value, simulated, exact, step = answers(NETS[name]().eval(), SHAPE, tmp_path)
    plain = Interpreter.load(tmp_path / "folder", xnnpack=False)  # works out every shape itself
    worked_out = {
        item["name"]: item["shape"].tolist() for item in plain._engine.get_tensor_details()
    }
    written = written_shapes(tmp_path / "net.tflite")
    assert written == {name: worked_out[name] for name in written}  # it has scratch, too
    assert value.shape == exact.shape
    assert np.abs(value - simulated).max() <= 1.01 * step
    assert np.abs(value - exact).mean() <= 0.5 * step


def test_pool_with_padding_that_tflite_cannot_express_is_named(tmp_path: Path) -> None:
    """Zero padding would be larger than the negative values of the map."""
    net = nn.Sequential(nn.Conv2d(*POINTWISE), nn.MaxPool2d(3, 2, 1)).eval()
    images = [np.zeros((*SHAPE, 3), np.uint8)]
    with pytest.raises(NotImplementedError, match=r"padding \(1, 1\) of max_pool"):
        export(net, images, tmp_path / "net.tflite", (3, *SHAPE))
    assert not (tmp_path / "net.tflite").exists()


@pytest.mark.parametrize(
    ("shape", "pads"), [((15, 15), 0), ((15, 16), 1), ((16, 15), 1), ((17, 23), 0)]
)
def test_explicit_padding_is_added_only_where_tflite_pads_differently(
    shape: tuple[int, int], pads: int, tmp_path: Path
) -> None:
    """An operator for the padding costs time; TFLite's own pads an odd map on both sides alike."""
    net = nn.Conv2d(3, 8, 3, 2, 1).eval()
    export(net, [np.zeros((*shape, 3), np.uint8)], tmp_path / "net.tflite", (3, *shape))
    proof = packed(tmp_path / "folder", tmp_path / "net.tflite").manifest.certificate
    assert proof.operators.get("PAD", 0) == pads
