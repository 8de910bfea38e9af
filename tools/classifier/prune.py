"""Structured pruning: removes the channels with the smallest filters, then trains on.

A convolution's channels can be cut if only channelwise layers, each with a single reader, lie
between it and the next convolution: in the expansions of inverted residuals, between the layers of
a MobileNet, inside a ResNet's bottleneck. Channels that are added or concatenated are kept.
Source: Li et al., Pruning Filters for Efficient ConvNets, 2017 (L1 norm of the filters).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from tools.classifier import fit, network, runtime, train
from tools.classifier.data import Pictures

MULTIPLE = 8  # channel counts are kept at multiples of this, as suits int8 kernels
RECOVERY_BATCH = 32
CHANNELWISE = frozenset(
    {
        "Activation", "AveragePooling2D", "BatchNormalization", "DepthwiseConv2D", "Dropout",
        "MaxPooling2D", "ReLU", "SpatialDropout2D", "ZeroPadding2D",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """A convolution, the channelwise layers after it, and the convolution that reads them."""

    first: str
    between: tuple[str, ...]
    last: str


def prune(net: Any, share: float) -> tuple[Any, str]:
    """Return a network without the weakest channels, and a line describing what was cut.

    share: of each chain's channels to cut, 0..1, rounded so that a multiple of 8 remains.
    Raises InputError for a backbone without channels that can be cut.
    """
    backbone = network.part(net, network.BACKBONE)
    kept = {chain: _kept_channels(backbone, chain, share) for chain in chains(backbone)}
    if not kept:
        raise InputError("--prune: this backbone has no channels that can be cut")
    smaller = _pruned_backbone(backbone, kept)
    before, after = network.parameters(backbone), network.parameters(smaller)
    line = (
        f"{share:.0%} of the channels between {len(kept)} pairs of convolutions by L1 norm; "
        f"backbone {before:,} -> {after:,} parameters"
    )
    return _with_backbone(net, smaller), line


def recover(
    net: Any,
    train_set: Pictures,
    validation: Pictures,
    *,
    epochs: int,
    learning_rate: float,
    state: Path,
) -> list[fit.Epoch]:
    """Train the whole pruned network, including batch statistics, and keep its best weights.

    state: folder from which an interrupted training resumes after its last completed epoch.
    """
    if epochs < 1:
        return []
    network.unfreeze(net)
    plan = fit.Plan("recovery", epochs, RECOVERY_BATCH, learning_rate, epochs, 1, 1, state)
    sets = train.pictures_samples(train_set), train.pictures_samples(validation)
    return fit.fit(net, *sets, plan)


def chains(backbone: Any) -> list[Chain]:
    """Return all chains whose channels can be cut, in the network's order."""
    found = []
    for layer in backbone.layers:
        if _is_convolution(layer):
            chain = _chain(layer)
            if chain is not None:
                found.append(chain)
    return found


def _is_convolution(layer: Any) -> bool:
    return type(layer).__name__ == "Conv2D" and layer.groups == 1


def _readers(layer: Any) -> list[Any]:
    return [node.operation for node in layer._outbound_nodes]  # noqa: SLF001 - the only way


def _chain(first: Any) -> Chain | None:
    """Follow the single readers of a convolution up to the next one."""
    between: list[str] = []
    layer = first
    while True:
        readers = _readers(layer)
        if len(readers) != 1:
            return None
        layer = readers[0]
        if _is_convolution(layer):
            return Chain(first.name, tuple(between), layer.name)
        is_widened = type(layer).__name__ == "DepthwiseConv2D" and layer.depth_multiplier != 1
        if type(layer).__name__ not in CHANNELWISE or is_widened:
            return None
        between.append(layer.name)


def _kept_channels(backbone: Any, chain: Chain, share: float) -> NDArray[np.intp]:
    """Return the indices of the channels to keep, sorted: those with the largest L1 norms."""
    kernel = backbone.get_layer(chain.first).get_weights()[0]
    norms = np.abs(kernel).sum((0, 1, 2))
    wanted = max(MULTIPLE, round(len(norms) * (1 - share) / MULTIPLE) * MULTIPLE)
    return np.sort(np.argsort(-norms, kind="stable")[:wanted])


def _pruned_backbone(backbone: Any, kept: dict[Chain, NDArray[np.intp]]) -> Any:
    """Return the backbone with fewer filters and the remaining weights."""
    keras, _ = runtime.load()
    filters = {chain.first: len(rows) for chain, rows in kept.items()}
    config = backbone.get_config()
    for layer in config["layers"]:
        layer.pop("build_config", None)  # holds the shapes before pruning
        if layer["config"]["name"] in filters:
            layer["config"]["filters"] = filters[layer["config"]["name"]]
    smaller = keras.Model.from_config(config)
    cuts = _cuts(kept)
    for layer in backbone.layers:
        values = [_cut(value, axes, cuts, layer) for axes, value in _axes(layer)]
        if values:
            smaller.get_layer(layer.name).set_weights(values)
    return smaller


def _cuts(kept: dict[Chain, NDArray[np.intp]]) -> dict[tuple[str, str], NDArray[np.intp]]:
    """Return the channels to keep by (layer, `inputs` or `outputs`)."""
    found = {}
    for chain, rows in kept.items():
        found[chain.first, "outputs"] = rows
        found[chain.last, "inputs"] = rows
        for name in chain.between:
            found[name, "outputs"] = rows
    return found


def _axes(layer: Any) -> Iterator[tuple[dict[str, int], Any]]:
    """Yield each weight of a layer with its axes: of inputs, of outputs."""
    for value in layer.get_weights():
        if value.ndim == 4 and type(layer).__name__ == "DepthwiseConv2D":
            yield {"outputs": 2}, value
        elif value.ndim == 4:
            yield {"inputs": 2, "outputs": 3}, value
        else:
            yield {"outputs": 0}, value


def _cut(
    value: NDArray[Any],
    axes: dict[str, int],
    cuts: dict[tuple[str, str], NDArray[np.intp]],
    layer: Any,
) -> NDArray[Any]:
    for role, axis in axes.items():
        rows = cuts.get((layer.name, role))
        if rows is not None:
            value = np.take(value, rows, axis)
    return value


def _with_backbone(net: Any, backbone: Any) -> Any:
    """Return the network with another backbone; adapter and head are shared."""
    keras, _ = runtime.load()
    backbone.name = network.BACKBONE
    image, adapted = network.adapted_input(net)
    return keras.Model(image, network.part(net, network.HEAD)(backbone(adapted)))
