"""A classifier's network: input adapter, backbone, dense head, as three nested Keras models.

The network's input is RGB as (level - 128) / 128. If the backbone was trained with another input
range, a fixed 1x1 convolution (the adapter) converts it. So every int8 file has input scale 1/128
and zero point 0, and the board writes `level XOR 0x80`.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError, ModelError, brief
from tools.classifier import efficientnet_lite, runtime, weights
from tools.classifier.description import Training

LITE = "EfficientNetLite0"
BACKBONE, HEAD, ADAPTER = "backbone", "head", "adapter"  # names of the nested models
LEVEL_SCALE, LEVEL_ZERO = 128.0, 128.0
# Momentum of batch statistics when training from scratch; 0.99 would need thousands of steps.
RANDOM_MOMENTUM = 0.9
# Adapters closer to the identity than this are left out, such as x / 127.5 - 1 (half a level off).
MAX_IDENTITY_ERROR = 0.01


def backbones() -> list[str]:
    """Return the names of all backbones: those of keras.applications, and EfficientNetLite0."""
    keras, _ = runtime.load()
    found = [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]
    return sorted([*found, LITE])


def build(training: Training, classes: int) -> Any:
    """Return the network: float32 (n, side, side, 3) -> probabilities (n, classes).

    Raises ConfigError for an unknown backbone or an invalid size, ModelError for weights that do
    not fit, InputError for weights that are not available.
    """
    keras, _ = runtime.load()
    keras.utils.set_random_seed(training.seed)
    backbone = _backbone(training)
    image = keras.Input((training.side_px, training.side_px, 3), name="image")
    value = image
    adapter = _adapter(training)
    if adapter is not None:
        value = adapter(value)
    head = build_head(training, backbone.output.shape[1:], classes)
    return keras.Model(image, head(backbone(value)))


def build_head(training: Training, shape: tuple[int, ...], classes: int) -> Any:
    """Return the trainable head: feature map, or its average, -> probabilities.

    With `average` pooling it accepts a map of any size: a cached average is a 1x1 map.
    shape: of the head's input, without the batch axis.
    """
    keras, _ = runtime.load()
    keras.utils.set_random_seed(training.seed)
    layers = keras.layers
    is_average = training.pooling == "average"
    features = keras.Input((None, None, shape[-1]) if is_average else shape)
    value = layers.GlobalAveragePooling2D()(features) if is_average else features
    if training.width:
        value = layers.Dense(training.width, activation="relu", name="dense")(value)
    value = layers.Dropout(training.dropout, seed=training.seed)(value)
    if not is_average:
        value = layers.Flatten()(value)
    value = layers.Dense(classes, activation="softmax", name="classes")(value)
    return keras.Model(features, value, name=HEAD)


def part(network: Any, name: str) -> Any:
    """Return the backbone, head or adapter of a network; None if it has none."""
    return next((layer for layer in network.layers if layer.name == name), None)


def adapted_input(network: Any) -> tuple[Any, Any]:
    """Return a new input as the network's, and what it is to the backbone, through the adapter."""
    keras, _ = runtime.load()
    image = keras.Input(network.input.shape[1:], name="image")
    adapter = part(network, ADAPTER)
    return image, image if adapter is None else adapter(image)


def unfreeze(network: Any) -> None:
    """Make all layers of backbone and head trainable, also those that fine-tuning had frozen.

    One by one: Keras ignores `network.trainable = True` where the network itself is not frozen.
    """
    for name in (BACKBONE, HEAD):
        for layer in part(network, name).layers:
            layer.trainable = True


def features_network(network: Any, *, pooled: bool) -> Any:
    """Return adapter and backbone: images -> the head's input, averaged if `pooled`."""
    keras, _ = runtime.load()
    image, adapted = adapted_input(network)
    value = part(network, BACKBONE)(adapted)
    if pooled:
        value = keras.layers.GlobalAveragePooling2D(keepdims=True)(value)
    return keras.Model(image, value)


def load(path: Path) -> Any:
    """Return the network of a `model.keras` file.

    Raises ModelError when it cannot be read.
    """
    keras, _ = runtime.load()
    try:
        with runtime.quiet():
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # noqa: BLE001 - Keras passes on any error of zip, HDF5 and JSON
        reason = brief(error)
        raise ModelError(f"model file {path}: cannot be read: {reason}; train it again") from None


def save(network: Any, path: Path) -> None:
    """Write `model.keras` atomically, without optimizer state; OSError, which names `path`."""
    keras, _ = runtime.load()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")  # Keras needs a path with this suffix
    try:
        keras.Model(network.input, network.output).save(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def parameters(network: Any) -> int:
    """Return the number of weights, biases and batch statistics."""
    return int(network.count_params())


def _backbone(training: Training) -> Any:
    keras, _ = runtime.load()
    if training.backbone == LITE:
        network = efficientnet_lite.build(training.side_px)
        weights.fill_lite(network, training.weights)
    else:
        network = _application(training)
    if training.weights == weights.RANDOM:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = RANDOM_MOMENTUM
    network.name = BACKBONE
    return network


def _application(training: Training) -> Any:
    """Return a backbone of keras.applications without its top."""
    keras, _ = runtime.load()
    builder = getattr(keras.applications, training.backbone, None)
    if not inspect.isfunction(builder):
        raise ConfigError(
            f"backbone {training.backbone!r} is unknown; known are {', '.join(backbones())}"
        )
    options = {"input_shape": (training.side_px, training.side_px, 3), "include_top": False}
    if training.alpha != 1:
        if "alpha" not in inspect.signature(builder).parameters:
            raise ConfigError(f"backbone {training.backbone} has one width; leave out --alpha")
        options["alpha"] = training.alpha
    return weights.build(builder, options, training.weights)


def _adapter(training: Training) -> Any | None:
    """Return a fixed 1x1 convolution from our input range to the backbone's; None if equal."""
    keras, _ = runtime.load()
    matrix, bias = _input_map(training.backbone)
    off = np.abs(matrix - np.eye(3)).max() + np.abs(bias).max()
    if off < MAX_IDENTITY_ERROR:
        return None
    layer = keras.layers.Conv2D(3, 1, trainable=False, name=ADAPTER)
    layer.build((None, training.side_px, training.side_px, 3))
    layer.set_weights([matrix[None, None], bias])
    return layer


def _input_map(backbone: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the affine map, (3, 3) and (3,), from our input to the backbone's.

    Determined from Keras's `preprocess_input`, which is affine (scale, mean, channel order).
    """
    keras, _ = runtime.load()
    if backbone == LITE:
        return np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    module = sys.modules[getattr(keras.applications, backbone).__module__]

    def mapped(ours: NDArray[np.float32]) -> NDArray[np.float32]:
        levels = (ours * LEVEL_SCALE + LEVEL_ZERO).reshape(-1, 1, 1, 3)
        return np.asarray(module.preprocess_input(levels.astype(np.float32))).reshape(-1, 3)

    bias = mapped(np.zeros((1, 3), np.float32))[0]
    return mapped(np.eye(3, dtype=np.float32)) - bias, bias
