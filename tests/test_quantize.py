"""Every operator the writer knows, as a small net: the .tflite file against torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from tools.quantize import (  # noqa: E402
    FakeQuantizer,
    Quantization,
    SpaceToDepth,
    calibrate,
    export,
    trace,
)
from tools.quantize.graph import Graph  # noqa: E402
from tools.quantize.ranges import (  # noqa: E402
    shared_scales,
)
from tools.train.steps import relative_adam  # noqa: E402
from written_networks import SIDE, infer, packed, pictures, scale_of, tensor_of  # noqa: E402


class Residual(nn.Module):
    """x + conv(x), then doubled: ADD of two tensors and of one with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, value: Tensor) -> Tensor:
        total = value + self.conv(value)
        return total + total


class Joined(nn.Module):
    """Pooled and resized maps beside the map itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.shrink = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2)

    def forward(self, value: Tensor) -> Tensor:
        made = self.conv(value)
        return torch.cat([made, self.pool(made), self.grow(self.shrink(made))], 1)


class TwoOutputs(nn.Module):
    """A map and logits, as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, value: Tensor) -> dict[str, Tensor]:
        made = self.conv(value)
        return {"map": made, "logits": self.head(made)}


class Applied(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: Tensor) -> Any:
        return self.function(value)


class Beside(nn.Module):
    """Reads a convolution's output also without its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, value: Tensor) -> Tensor:
        made = self.conv(value)
        return self.norm(made) + made


def read_twice(value: Tensor) -> Tensor:
    """A sum with and without its ReLU."""
    total = value + value
    return torch.relu(total) + total


NETS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "conv_valid": lambda: nn.Conv2d(3, 8, 3),
    "conv_stride_2": lambda: nn.Conv2d(3, 8, 3, 2, 1),
    "conv_6x6_stride_2": lambda: nn.Conv2d(3, 8, 6, 2, 2),
    "pointwise": lambda: nn.Conv2d(3, 8, 1),
    "conv_without_bias": lambda: nn.Conv2d(3, 8, 1, bias=False),
    "depthwise": lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3),
    "depthwise_5x5_stride_2": lambda: nn.Conv2d(3, 3, 5, 2, 2, groups=3),
    "batch_norm": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), normed(8)),
    "relu": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()),
    "relu6": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU6()),
    "relu_alone": lambda: nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
    "silu": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()),
    "sigmoid": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sigmoid()),
    "add": Residual,
    "concat_pool_resize": Joined,
    "average_pool": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.AvgPool2d(2)),
    "mean": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1)),
    "space_to_depth": lambda: nn.Sequential(SpaceToDepth(2), nn.Conv2d(12, 8, 3, padding=1)),
    "pad": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ZeroPad2d(2)),
    "linear": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)),
    "two_outputs": TwoOutputs,
}


def normed(channels: int) -> nn.BatchNorm2d:
    """A batch norm with statistics as after training."""
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.copy_(torch.randn(channels))
    norm.running_var.copy_(torch.rand(channels) + 0.5)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("name", NETS)
def test_written_network_agrees_with_its_simulation_within_one_level(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    net = NETS[name]().eval()
    with torch.no_grad():  # pixels are 0..255: bring activations near one
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d) and layer.in_channels in (3, 12):
                layer.weight /= 100
    images = pictures()
    ranges = export(net, images, tmp_path / "net.tflite", (3, SIDE, SIDE))
    interpreter = packed(tmp_path / "folder", tmp_path / "net.tflite")
    graph = trace(net)
    for image in images[:2]:
        with torch.no_grad():
            simulated = graph(tensor_of(image), FakeQuantizer(graph, ranges))
            result = net(tensor_of(image))
        exact = result if isinstance(result, dict) else {"output": result}
        for output, value in infer(interpreter, image).items():
            step = scale_of(interpreter, output)
            assert np.abs(value - simulated[output][0].numpy()).max() <= 2.01 * step
            assert np.abs(value - exact[output][0].numpy()).mean() <= 2 * step


def test_written_file_is_integer_only(tmp_path: Path) -> None:
    export(Joined(), pictures(), tmp_path / "net.tflite", (3, SIDE, SIDE))
    proof = packed(tmp_path / "folder", tmp_path / "net.tflite").manifest.certificate
    assert proof.integer_only
    assert (proof.operators["CONCATENATION"], proof.operators["DEPTH_TO_SPACE"]) == (2, 1)


def test_tensor_names_are_unique(tmp_path: Path) -> None:
    from edge.certificate import read_graph

    net = nn.Sequential(Joined(), nn.Conv2d(24, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1))
    export(net, pictures(), tmp_path / "net.tflite", (3, SIDE, SIDE))
    names = [item.name for item in read_graph((tmp_path / "net.tflite").read_bytes()).tensors]
    assert len(set(names)) == len(names)


def test_color_scale_of_minus_one_to_one_reaches_the_input(tmp_path: Path) -> None:
    net = nn.Conv2d(3, 4, 1).eval()
    path = tmp_path / "net.tflite"
    export(net, pictures(), path, (3, SIDE, SIDE), pixels=Quantization(1 / 128, 0))
    interpreter = packed(tmp_path / "folder", path)
    assert interpreter.manifest.input.zero_point == 0
    image = pictures(1)[0]
    with torch.no_grad():
        wanted = net((tensor_of(image) - 128) / 128)[0].numpy()
    assert np.abs(infer(interpreter, image)["output"] - wanted).max() <= 2 * scale_of(
        interpreter, "output"
    )


def test_traced_graph_computes_the_same_function_in_float() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        SpaceToDepth(2), nn.Conv2d(12, 8, 3, padding=1, bias=False), normed(8), nn.SiLU(), nn.ReLU()
    ).eval()
    value = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(trace(net)(value)["output"], net(value), atol=1e-5)


@pytest.mark.parametrize(
    "net",
    [
        nn.Tanh(),
        nn.Conv2d(3, 6, 3, dilation=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)),
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 6, 3, padding="same"),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.AvgPool2d(2, padding=1),
        nn.AvgPool2d(3, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=3),
        nn.MaxPool2d(3, ceil_mode=True),
        nn.MaxPool2d(3, dilation=2),
        nn.MaxPool2d(3, return_indices=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Upsample(scale_factor=1.5),
        nn.Upsample(scale_factor=(1.5, 2)),
        nn.Upsample(scale_factor=(2, 1.5)),
        nn.Upsample(size=(8, 8)),
        nn.ZeroPad2d((1, 2, 1, 1)),
        nn.ZeroPad2d((1, 1, 1, 2)),
        nn.Flatten(2),
        Beside(),
    ],
    ids=str,
)
def test_unknown_operator_is_refused(net: nn.Module) -> None:
    with pytest.raises(NotImplementedError):
        trace(net)


@pytest.mark.parametrize(
    "function",
    [
        torch.flatten,  # the batch, too
        lambda value: torch.flatten(value, 2),
        lambda value: torch.cat([value, value]),  # along the batch
        lambda value: torch.cat([value, value], 2),
        lambda value: torch.cat([value, value], dim=3),
        lambda value: value + 1,
        lambda value: 2 * value,
        lambda value: torch.add(value, value, alpha=2),
        lambda value: torch.sigmoid(input=value),
        torch.tanh,
    ],
)
def test_unknown_use_of_a_function_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotImplementedError):
        trace(Applied(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda value: torch.flatten(value, 1),
        lambda value: torch.flatten(value, start_dim=1),
        lambda value: torch.cat([value, torch.relu(value)], dim=1),
        lambda value: torch.sigmoid(value) * functional.relu6(value),
        lambda value: torch.relu(functional.relu6(value + value)),
        read_twice,
        nn.Conv2d(3, 6, (1, 3), (2, 1), (0, 1)),
        nn.Conv2d(3, 6, 3, groups=3),
        nn.MaxPool2d((3, 2), (1, 2), (1, 0)),
        nn.AvgPool2d((3, 2), (1, 2)),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Upsample(scale_factor=(2, 3)),
        nn.ZeroPad2d((1, 1, 2, 2)),
    ],
)
def test_traced_function_computes_the_same(function: Callable[[Tensor], Tensor]) -> None:
    value = torch.linspace(-9, 9, 96).reshape(2, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(trace(Applied(function))(value)["output"], function(value))


def test_activation_is_not_fused_into_an_output() -> None:
    def both(value: Tensor) -> dict[str, Tensor]:
        total = value + value
        return {"sum": total, "relu": torch.relu(total)}

    value = torch.linspace(-9, 9, 12).reshape(1, 3, 2, 2)
    made = trace(Applied(both))(value)
    assert all(torch.equal(made[name], wanted) for name, wanted in both(value).items())


@pytest.mark.parametrize(
    "operator",
    [
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(3, 3, 3, groups=3),
        nn.Linear(3, 5),
        Applied(lambda value: value + value),
    ],
    ids=str,
)
def test_activation_is_fused_into_the_operator_before_it(operator: nn.Module) -> None:
    graph = trace(nn.Sequential(operator, nn.ReLU6()))
    assert [node.activation for node in graph.nodes] == ["", "relu6"]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Flatten(), nn.Linear(256, 5)), "reshape of a map"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(SIDE, 5)), "linear layer on a map"),
    ],
    ids=["flatten", "linear"],
)
def test_layer_that_reads_a_map_in_torchs_order_is_refused(
    net: nn.Module, message: str, tmp_path: Path
) -> None:
    with pytest.raises(NotImplementedError, match=message):
        export(net, pictures(), tmp_path / "net.tflite", (3, SIDE, SIDE))


def test_inputs_of_a_concatenation_share_one_range() -> None:
    graph = trace(Joined()).with_shapes((3, SIDE, SIDE))
    ranges = calibrate(graph, pictures())
    group = next(group for group in shared_scales(graph) if len(group) > 1)
    assert len(group) == 5
    assert len({ranges[name] for name in group}) == 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d(1),
        SpaceToDepth(2),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=str,
)
def test_layer_that_computes_no_new_range_keeps_that_of_its_input(layer: nn.Module) -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 8, 1), layer)).with_shapes((3, SIDE, SIDE))
    last = graph.nodes[-1]
    assert any({last.name, *last.inputs} <= set(group) for group in shared_scales(graph))


def test_training_through_quantization_lowers_its_loss() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)).eval()
    with torch.no_grad():
        net[0].weight /= 100
    graph: Graph = trace(net).with_shapes((3, SIDE, SIDE))
    images = pictures()
    batch = torch.cat([tensor_of(image) for image in images])
    quantizer = FakeQuantizer(graph, calibrate(graph, images))
    with torch.no_grad():
        wanted = net(batch)
        for weight in graph.weights.values():
            weight.mul_(0.8)
    optimizer = relative_adam(graph, 0.01)
    losses = []
    for _ in range(60):
        loss = (graph(batch, quantizer)["output"] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < 0.3 * losses[0]


def test_constants_are_aligned_as_the_schema_requires(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    net = nn.Sequential(Joined(), nn.Conv2d(24, 8, 3, 2, 1))
    export(net, pictures(), tmp_path / "net.tflite", (3, SIDE, SIDE))
    content = np.frombuffer((tmp_path / "net.tflite").read_bytes(), np.uint8)
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    starts = [
        buffer.DataAsNumpy().ctypes.data - content.ctypes.data
        for buffer in buffers
        if buffer.DataLength()
    ]
    assert len(starts) >= 3
    assert all(start % 16 == 0 for start in starts)


def test_unequal_upsampling_of_height_and_width_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Upsample(scale_factor=(1, 2)))
    with pytest.raises(NotImplementedError, match="another factor for rows"):
        export(net, pictures(), tmp_path / "net.tflite", (3, SIDE, SIDE))
