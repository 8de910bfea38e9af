"""Ranges of tensors: as wide as their values, no wider."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from edge.errors import InputError  # noqa: E402
from tools import tflite_file  # noqa: E402
from tools.quantize import (  # noqa: E402
    Calibration,
    FakeQuantizer,
    Quantization,
    calibrate,
    export,
    trace,
)
from tools.quantize.integers import quantize_bias, quantize_weight, weight_scales  # noqa: E402
from tools.quantize.ranges import (  # noqa: E402
    BINS,
    LOGISTIC,
    PIXELS,
    SILU_FLOOR,
    Statistics,
    batches,
    choose,
    from_range,
    measure,
)
from written_networks import infer, packed, scale_of  # noqa: E402

SHAPE = (3, 8, 12)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-3.0, 1.0), (2.0, 5.0), (-4.0, -1.0), (-8.0, 1.0), (-9e2, 1e2)]
)
def test_range_is_no_wider_than_needed_and_zero_is_exact(low: float, high: float) -> None:
    found = from_range(low, high)
    half = found.scale / 2
    assert -128 <= found.zero_point <= 127
    assert found.low == pytest.approx(min(low, 0), abs=1.001 * half)
    assert found.high == pytest.approx(max(high, 0), abs=1.001 * half)
    assert found.high - found.low == pytest.approx(max(high, 0) - min(low, 0))


def pictures(count: int) -> list[np.ndarray]:
    chance = np.random.default_rng(5)
    return [chance.integers(0, 256, (8, 12, 3), dtype=np.uint8) for _ in range(count)]


def test_pictures_come_in_batches_of_real_values() -> None:
    images = pictures(5)
    made = list(batches(images, PIXELS, 2))
    assert [tuple(batch.shape) for batch in made] == [(2, *SHAPE), (2, *SHAPE), (1, *SHAPE)]
    assert (torch.cat(made).numpy() == np.stack(images).transpose(0, 3, 1, 2)).all()
    (centred,) = batches(images[:1], Quantization(1 / 128, 3), 2)
    wanted = (images[0].transpose(2, 0, 1) - 131.0) / 128
    np.testing.assert_allclose(centred[0].numpy(), wanted, rtol=1e-6)


def test_statistics_do_not_depend_on_the_batch_size() -> None:
    torch.manual_seed(2)
    graph = trace(nn.Conv2d(3, 4, 1).eval()).with_shapes(SHAPE)
    images = pictures(5)
    one, two = (measure(graph, images, batch=size) for size in (1, 2))
    name = graph.outputs["output"]
    assert one.ranges[name] == pytest.approx(two.ranges[name])
    assert one._counts[name].sum() == 5 * 4 * 8 * 12
    torch.testing.assert_close(one._counts[name], two._counts[name], atol=2, rtol=0)


def test_range_covers_all_pictures_except_the_clipped_share() -> None:
    images = [np.full((8, 12, 3), level, np.uint8) for level in (100, 7, 250, 60)]
    net = nn.Conv2d(3, 1, 1, bias=False).eval()
    nn.init.constant_(net.weight, 1 / 3)
    graph = trace(net).with_shapes(SHAPE)
    found = measure(graph, images, batch=1)
    low, high = found.ranges[graph.outputs["output"]]
    assert (low, high) == pytest.approx((7, 250))

    statistics = Statistics({"x": (0.0, float(BINS)), "constant": (2.0, 2.0)})
    statistics.activation("x", torch.arange(BINS) + 0.5)  # one in each bin
    statistics.activation("constant", torch.full((5,), 2.0))
    assert statistics.range("x", 0.75) == (BINS / 4 - 1, BINS * 3 / 4)
    assert statistics.range("x", 1.0) == (0.0, BINS)
    assert statistics.range("constant", 0.75) == (2.0, 2.0)


class Joined(nn.Module):
    """Two maps that a SiLU reads as one, of which one is an output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.silu = nn.SiLU()

    def forward(self, value: Tensor) -> dict[str, Tensor]:
        made = self.one(value)
        return {"map": made, "silu": self.silu(torch.cat([made, self.other(value)], 1))}


class Shown(nn.Module):
    """A map that a SiLU alone reads, and that is an output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.silu = nn.Conv2d(3, 4, 1), nn.SiLU()

    def forward(self, value: Tensor) -> dict[str, Tensor]:
        made = self.conv(value)
        return {"map": made, "silu": self.silu(made)}


@pytest.mark.parametrize("net", [Joined, Shown])
def test_silu_floor_does_not_clip_tensors_with_other_readers(net: type[nn.Module]) -> None:
    torch.manual_seed(2)
    graph = trace(net().eval()).with_shapes(SHAPE)
    statistics = measure(graph, pictures(4))
    found = choose(graph, statistics)[graph.outputs["map"]]
    low, high = statistics.ranges[graph.outputs["map"]]
    assert low < 4 * SILU_FLOOR
    assert found.low <= low + found.scale
    assert found.high >= high - found.scale


def test_mean_has_a_range_of_its_own() -> None:
    graph = trace(nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 4, 1)).eval()).with_shapes(SHAPE)
    found = calibrate(graph, pictures(2))
    (pooled,) = (node.name for node in graph.nodes if node.kind == "average_pool")
    assert found[pooled].high - found[pooled].low < 0.6 * (PIXELS.high - PIXELS.low)


def test_a_bias_far_above_its_input_keeps_every_channel_of_a_linear_layer(tmp_path: Path) -> None:
    """One scale for all channels, raised where one of them has no room for its bias."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for parameter in net[0].parameters():
        nn.init.zeros_(parameter)  # a dead layer: the scale of its output is almost zero
    with torch.no_grad():
        net[3].bias.copy_(torch.tensor([1.0, 20.0, 5.0]))
    export(net.eval(), pictures(2), tmp_path / "net.tflite", SHAPE)
    interpreter = packed(tmp_path / "folder", tmp_path / "net.tflite")
    found = infer(interpreter, pictures(1)[0])["output"]
    assert np.ravel(found) == pytest.approx([1, 20, 5], abs=scale_of(interpreter, "output"))
    weights = tflite_file.unpacked((tmp_path / "net.tflite").read_bytes()).subgraphs[0].tensors
    scales = {one.name.decode(): one.quantization.scale for one in weights}
    assert len(scales["_3_weight"]) == 1  # tflite-runtime has no kernel for one a channel
    assert len(scales["_0_weight"]) == 4


def test_a_convolution_has_a_scale_for_each_channel_and_a_linear_layer_one() -> None:
    largest = torch.tensor([1.27, -0.0127, 0.0])
    weight = torch.stack([largest, largest / 2], 1)
    one = [0.01, 0.0001]
    assert weight_scales(weight[:, :, None, None])[:2].tolist() == pytest.approx(one)
    assert weight_scales(weight[:, :, None, None])[2] > 0  # a channel that is all zero
    assert weight_scales(weight).tolist() == pytest.approx([0.01] * 3)


def test_weights_and_biases_are_rounded_to_the_nearest_step() -> None:
    weight = torch.tensor([[1.27, -1.27, 0.0149, -0.0151]])
    scales = weight_scales(weight)
    assert quantize_weight(weight, scales).tolist() == [[127, -127, 1, -2]]
    assert quantize_bias(torch.tensor([0.0149]), scales, 0.5).tolist() == [3]


def test_simulation_rounds_the_same_tensors_as_the_file_once() -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.AvgPool2d(2)).eval()
    graph = trace(net).with_shapes(SHAPE)
    ranges = calibrate(graph, pictures(2))
    quantizer = FakeQuantizer(graph, ranges)
    for node in graph.nodes:
        found = ranges[node.name]
        value = torch.tensor([found.low - 9, found.high + 9, 0.3 * found.scale])
        rounded = quantizer.activation(node.name, value)
        if node.kind in ("conv", "average_pool"):
            wanted = torch.tensor([found.low, found.high, 0.0])
            torch.testing.assert_close(rounded, wanted, atol=1e-4, rtol=1e-6)
        else:  # it passes on values that are rounded already
            assert rounded is value
    weight = graph.weights[graph.nodes[1].name]
    scales = weight_scales(weight)
    steps_ = (quantizer.weight("", weight).detach() / scales[:, None, None, None]).numpy()
    np.testing.assert_allclose(steps_, np.round(steps_), atol=1e-4)
    assert np.abs(steps_).max() == pytest.approx(127)


def test_calibration_without_images_is_refused() -> None:
    graph = trace(nn.Conv2d(3, 4, 1)).with_shapes(SHAPE)
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(graph, [])


class GateBeside(nn.Module):
    """Sigmoids, whose scale the operator fixes, beside a map that needs more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, value: Tensor) -> Tensor:
        made = self.conv(value)
        return torch.cat([torch.sigmoid(made), made], 1)


def test_concatenation_of_a_fixed_scale_with_another_is_refused() -> None:
    graph = trace(GateBeside().eval()).with_shapes(SHAPE)
    with pytest.raises(NotImplementedError, match="concatenation with a fixed scale"):
        calibrate(graph, pictures(8))


def test_percentile_range_clips_equally_on_each_side() -> None:
    statistics = Statistics({"x": (-1.0, 3.0)})
    statistics.activation("x", torch.linspace(-1, 3, 10_001))
    assert statistics.range("x", 0.9) == pytest.approx((-0.6, 2.6), abs=0.01)
    assert statistics.range("x", 1.0) == (-1.0, 3.0)


def test_percentile_cuts_activations_but_not_outputs() -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)).eval()
    graph = trace(net).with_shapes(SHAPE)
    wide = calibrate(graph, pictures(8), options=Calibration(percentile=100))
    tight = calibrate(graph, pictures(8), options=Calibration(percentile=95))
    inner, last = graph.nodes[1].name, graph.outputs["output"]
    assert tight[inner].scale < 0.9 * wide[inner].scale
    assert tight[last] == wide[last]
    assert wide["input"] == PIXELS
    assert next(q for name, q in wide.items() if name.endswith("_gate")) == LOGISTIC


def test_percentile_does_not_cut_what_an_output_only_moves() -> None:
    torch.manual_seed(2)
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2)).eval()).with_shapes(SHAPE)
    wide, tight = (
        calibrate(graph, pictures(8), options=Calibration(percentile=share)) for share in (100, 95)
    )
    assert tight == wide


class SigmoidAdded(nn.Module):
    """A map to which its sigmoid is added."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, value: Tensor) -> Tensor:
        made: Tensor = self.conv(value)
        return made + torch.sigmoid(made)


class ReadTwice(nn.Module):
    """A map that a SiLU reads and an addition, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.silu = nn.SiLU()

    def forward(self, value: Tensor) -> Tensor:
        made = self.conv(value)
        added: Tensor = self.silu(made) + made
        return added


def test_range_of_a_tensor_read_only_by_silu_starts_at_the_silu_floor() -> None:
    torch.manual_seed(2)
    alone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)).eval()
    scores = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid())
    others = [ReadTwice(), SigmoidAdded(), scores]
    for net, is_cut in ((alone, True), *((other.eval(), False) for other in others)):
        graph = trace(net).with_shapes(SHAPE)
        found = calibrate(graph, pictures(8))[graph.nodes[1].name]
        assert graph.nodes[1].kind == "conv"
        assert (found.low > SILU_FLOOR - found.scale) is is_cut
        assert found.high > 50
        whole = Calibration(silu_floor=-math.inf)
        assert calibrate(graph, pictures(8), options=whole)[graph.nodes[1].name].low < -20


@pytest.mark.parametrize("weight", [math.nan, math.inf, 1e30])
def test_diverged_network_is_refused_with_one_line(weight: float) -> None:
    net = nn.Conv2d(3, 4, 3).eval()
    nn.init.constant_(net.weight, weight)
    graph = trace(net).with_shapes(SHAPE)
    with pytest.raises(InputError, match="train it again with a lower --learning-rate"):
        calibrate(graph, [np.full((8, 12, 3), 200, np.uint8)])
