"""Heat maps, pruning and int8 training of small networks whose right results are known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from classifying import ROOT, run_python, skip_without

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TRAINABLE = ["classes", "depthwise", "expand", "last", "project", "stem"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The facts that the child found."""
    skip_without("rich", "tensorflow", "keras")
    folder = tmp_path_factory.mktemp("parts")
    child = ROOT / "tests" / "classifier_parts_child.py"
    facts: dict[str, Any] = json.loads(run_python(folder, str(child), str(folder))[-1])
    return facts


def test_heat_map_shows_where_the_class_is(found: dict[str, Any]) -> None:
    (red, over_red), (blue, over_blue) = (found["explained"][name] for name in ("red", "blue"))
    assert red > blue
    assert red + blue == pytest.approx(1, abs=0.1)
    assert over_red == pytest.approx([1, 1, 1, 0])  # columns of the map
    assert over_blue == pytest.approx([0, 0, 0, 1])


def test_cutting_channels_that_add_nothing_changes_no_answer(found: dict[str, Any]) -> None:
    assert found["pruned"]["channels"] == 40
    assert found["pruned"]["off"] < 1e-5
    assert found["pruned"]["strength"] > 0.1


def test_pruned_network_is_trained_as_a_whole_but_for_its_adapter(found: dict[str, Any]) -> None:
    assert found["pruned"]["trained"] == TRAINABLE


def test_int8_training_changes_all_kernels_and_no_batch_statistics(found: dict[str, Any]) -> None:
    assert found["trained_quantized"] == {"trained": TRAINABLE, "statistics": 0}


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "Dense"])
def test_each_channel_of_a_kernel_is_rounded_on_its_own_scale(
    found: dict[str, Any], kind: str
) -> None:
    for steps in found["rounded"][kind]:
        assert 0.2 < steps < 0.51


def test_simulated_int8_is_near_the_float_network_but_not_equal(found: dict[str, Any]) -> None:
    assert 1e-5 < found["rounded"]["network"] < 0.05


def test_simulated_int8_stores_at_most_256_levels(found: dict[str, Any]) -> None:
    assert 16 < found["rounded"]["levels"] <= 256 < found["rounded"]["values"]


def test_network_with_a_layer_that_reshapes_can_be_trained(found: dict[str, Any]) -> None:
    assert found["reshaping"] == [3] * 16


@pytest.mark.parametrize(
    ("name", "trained"),
    [("three", ["classes", "last"]), ("all", TRAINABLE), ("better", [])],
)
def test_fine_tuning_trains_the_last_layers_and_keeps_a_better_head(
    found: dict[str, Any], name: str, trained: list[str]
) -> None:
    tuned = found["fine_tuned"][name]
    assert tuned["trained"] == trained
    assert not tuned["norm"]
    assert tuned["rates"] == pytest.approx([5e-5, 0], abs=1e-9)  # halfway and at the end
