"""Quantization-aware training: trains the network with simulated int8 rounding.

Weights are fake-quantized per channel, and every tensor that the int8 file will store is
fake-quantized with its own range, a moving average of minimum and maximum; gradients pass through
unchanged (straight-through estimator). The trained weights are copied back to the plain network,
which is then converted as usual. Batch statistics are frozen, so per-channel scales before the
batch norm equal those that the converter finds after folding it.
Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from edge.errors import ModelError, brief
from tools.classifier import fit, network, runtime, train
from tools.classifier.data import Pictures

BATCH = 32
MOMENTUM = 0.99  # of the moving average of the ranges
KERNELS = frozenset({"Conv2D", "DepthwiseConv2D", "Dense"})
# Layers that only move values.
SHAPES = frozenset(
    {
        "Cropping2D", "Dropout", "Flatten", "InputLayer", "MaxPooling2D", "Reshape",
        "SpatialDropout2D", "ZeroPadding2D",
    }
)  # fmt: skip


def train_quantized(
    net: Any,
    train_set: Pictures,
    validation: Pictures,
    *,
    epochs: int,
    learning_rate: float,
    state: Path,
) -> Any:
    """Return the network with quantization-aware trained weights; its structure is unchanged.

    state: folder from which an interrupted training resumes after its last completed epoch.
    Raises ModelError for a network with layers that cannot be cloned.
    """
    network.unfreeze(net)
    quantized = _fake_quantized_copy(net)
    plan = fit.Plan("qat", epochs, BATCH, learning_rate, epochs, 1, 1, state)
    sets = train.pictures_samples(train_set), train.pictures_samples(validation)
    fit.fit(quantized, *sets, plan)
    for name in (network.BACKBONE, network.HEAD):
        source = network.part(quantized, name)
        for layer in network.part(net, name).layers:
            count = len(layer.weights)
            if count:
                layer.set_weights(source.get_layer(layer.name).get_weights()[:count])
    return net


def _fake_quantized_copy(net: Any) -> Any:
    """Return the network with fake quantization in every layer of backbone and head."""
    keras, _ = runtime.load()
    image, value = network.adapted_input(net)
    for name in (network.BACKBONE, network.HEAD):
        source = network.part(net, name)
        try:
            copy = keras.models.clone_model(source, clone_function=_fake_quantized_layer)
        except (TypeError, ValueError) as error:
            reason = brief(error)
            raise ModelError(f"--qat: {name} cannot be cloned: {reason}") from None
        copy.name = name
        for layer in source.layers:
            made = copy.get_layer(layer.name)
            made.set_weights([*layer.get_weights(), *made.get_weights()[len(layer.weights) :]])
        value = copy(value)
    return keras.Model(image, value)


def _fake_quantized_layer(layer: Any) -> Any:
    """Return a copy of a layer that fake-quantizes its weights and, if stored, its output."""
    kind = type(layer).__name__
    config = layer.get_config()
    if kind in SHAPES:
        return type(layer).from_config(config)
    base: Any = type(layer)
    copy = _fake_quantized_class(base).from_config(config)
    copy.stores_output = _stores_output(layer)
    if kind == "BatchNormalization":
        copy.trainable = False
    return copy


def _stores_output(layer: Any) -> bool:
    """Return whether the int8 file stores the layer's output: not if the next layer is fused."""
    readers = [node.operation for node in layer._outbound_nodes]  # noqa: SLF001 - the only way
    is_fused = len(readers) == 1 and _is_fused(readers[0])
    return not is_fused and _activation(layer) != "softmax"


def _is_fused(layer: Any) -> bool:
    """Return whether the converter fuses the layer into the preceding one."""
    is_relu = type(layer).__name__ == "Activation" and _activation(layer) in {"relu", "relu6"}
    return is_relu or type(layer).__name__ in {"BatchNormalization", "ReLU"}


def _activation(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "")


@functools.cache
def _fake_quantized_class(base: Any) -> Any:
    """Return a subclass of a Keras layer with fake quantization of its weights and output."""

    class FakeQuantized(base):  # type: ignore[misc]
        """A layer with the rounding of int8 arithmetic."""

        stores_output = True

        def build(self, input_shape: Any) -> None:
            """Create the layer's weights, then three more for its output range."""
            super().build(input_shape)
            self.lowest, self.highest, self.is_set = (
                self.add_weight(name=name, shape=(), initializer="zeros", trainable=False)
                for name in ("lowest", "highest", "is_set")
            )

        def compute_output_spec(self, inputs: Any, **_: Any) -> Any:
            """Ignore `call`'s other arguments: not every base layer accepts them."""
            return super().compute_output_spec(inputs)

        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ARG002
            """Return the layer's output computed with fake-quantized weights and output."""
            if base.__name__ in KERNELS:
                value = _weighted(self, inputs)
            elif base.__name__ == "BatchNormalization":
                value = super().call(inputs, training=False)
            else:
                value = super().call(inputs)
            if not self.stores_output:
                return value
            if training:
                _update_range(self, value)
            return _quantized_output(self, value)

    FakeQuantized.__name__ = f"FakeQuantized{base.__name__}"
    return FakeQuantized


def _weighted(layer: Any, value: Any) -> Any:
    """Return a convolution's or dense layer's output with a quantized kernel."""
    ops = runtime.load()[0].ops
    kind = type(layer).__name__.removeprefix("FakeQuantized")
    kernel = _quantized_kernel(layer.kernel, is_depthwise=kind == "DepthwiseConv2D")
    if kind == "Dense":
        made = ops.matmul(value, kernel)
    else:
        convolve = ops.depthwise_conv if kind == "DepthwiseConv2D" else ops.conv
        made = convolve(
            value, kernel, strides=layer.strides, padding=layer.padding,
            dilation_rate=layer.dilation_rate,
        )  # fmt: skip
    if layer.use_bias:
        made = ops.add(made, layer.bias)
    return layer.activation(made)


def _quantized_kernel(kernel: Any, *, is_depthwise: bool) -> Any:
    """Return a kernel rounded to 255 symmetric levels per output channel."""
    _, tensorflow = runtime.load()
    # A depthwise kernel is (height, width, channels, 1); the channels must be the last axis.
    value = tensorflow.transpose(kernel, (0, 1, 3, 2)) if is_depthwise else kernel + 0.0
    most = tensorflow.reduce_max(tensorflow.abs(value), axis=list(range(value.ndim - 1)))
    most = tensorflow.maximum(tensorflow.stop_gradient(most), 1e-8)
    rounded = tensorflow.quantization.fake_quant_with_min_max_vars_per_channel(
        value, -most, most, narrow_range=True
    )
    return tensorflow.transpose(rounded, (0, 1, 3, 2)) if is_depthwise else rounded


def _quantized_output(layer: Any, value: Any) -> Any:
    """Return a value rounded to the 256 levels of the layer's range; unchanged while unknown."""
    _, tensorflow = runtime.load()
    is_known = layer.is_set > 0
    low = tensorflow.where(is_known, tensorflow.minimum(layer.lowest + 0.0, 0.0), -1.0)
    high = tensorflow.where(is_known, tensorflow.maximum(layer.highest + 0.0, low + 1e-6), 1.0)
    quantized = tensorflow.quantization.fake_quant_with_min_max_vars(value, low, high)
    return tensorflow.where(is_known, quantized, value)


def _update_range(layer: Any, value: Any) -> None:
    """Update the moving average of the layer's range; the first batch initializes it."""
    _, tensorflow = runtime.load()
    keep = tensorflow.where(layer.is_set > 0, MOMENTUM, 0.0)
    layer.lowest.assign(layer.lowest * keep + tensorflow.reduce_min(value) * (1 - keep))
    layer.highest.assign(layer.highest * keep + tensorflow.reduce_max(value) * (1 - keep))
    layer.is_set.assign(1.0)
