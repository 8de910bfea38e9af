"""Explains, prunes and trains small networks in a process of its own; prints facts as JSON.

Argument: a folder to write to.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from classifier_child import normed, tiny_net
from classifying import NAMES, describe
from tools.classifier import description, network, prune, qat, runtime, train
from tools.classifier.data import Pictures
from tools.classifier.description import Training
from tools.classifier.fit import Epoch
from tools.explain.classifier import Explainer

SIDE_PX = 32
TRAINING = Training(side_px=SIDE_PX, width=0, dropout=0)
GENERATOR = np.random.default_rng(1)


def joined(backbone: Any, classes: int = 3) -> Any:
    """Return a network of an adapter, a backbone and a head, as `network.load` gives it."""
    keras, _ = runtime.load()
    backbone.name = network.BACKBONE
    image = keras.Input((SIDE_PX, SIDE_PX, 3))
    adapted = keras.layers.Conv2D(3, 1, trainable=False, name=network.ADAPTER)(image)
    head = network.build_head(TRAINING, backbone.output.shape[1:], classes)
    return keras.Model(image, head(backbone(adapted)))


def tiny() -> Any:
    return tiny_net(input_shape=(SIDE_PX, SIDE_PX, 3), include_top=False, weights=None)


def reloaded(net: Any, path: Path) -> Any:
    network.save(net, path)
    return network.load(path)


def pictures(count: int = 64) -> Pictures:
    rgb = GENERATOR.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    return Pictures(rgb, np.arange(count) % 3, (), "", Path())


def inputs() -> Any:
    return GENERATOR.uniform(-1, 1, (16, SIDE_PX, SIDE_PX, 3)).astype(np.float32)


def explained(folder: Path) -> dict[str, Any]:
    """Explain a picture, red but for its blue right quarter, to a network that averages colors."""
    keras, _ = runtime.load()
    image = keras.Input((SIDE_PX, SIDE_PX, 3))
    net = joined(keras.Model(image, keras.layers.AveragePooling2D(8)(image)))
    same = np.eye(3, dtype=np.float32)
    network.part(net, network.ADAPTER).set_weights([same[None, None], np.zeros(3)])
    network.part(net, network.HEAD).set_weights([2 * same[::-1], np.zeros(3)])  # blue, green, red
    network.save(net, folder / description.KERAS_FILE)
    description.write(folder, describe(labels=NAMES, side_px=SIDE_PX, backbone="averages"))
    bgr = np.full((40, 80, 3), (0, 0, 255), np.uint8)
    bgr[:, 60:] = (255, 0, 0)
    found = [Explainer(folder).explain(bgr, label) for label in (None, "blue")]
    return {one.label: [one.share, one.heat.mean(0).tolist()] for one in found}


def pruned(folder: Path) -> dict[str, Any]:
    """Cut the channels of a network that add nothing, then train on."""
    net = joined(tiny())
    backbone = network.part(net, network.BACKBONE)
    for layer in backbone.layers:
        values = layer.get_weights()
        layer.set_weights(
            [one if one.ndim > 1 else one + GENERATOR.uniform(0, 0.3, one.shape) for one in values]
        )
    idle = GENERATOR.permutation(64)[:24]
    for name in ("expand", "depthwise"):
        layer, norm = backbone.get_layer(name), norm_after(backbone, name)
        kernel, bias = layer.get_weights()
        gamma, beta, mean, variance = norm.get_weights()
        bias[idle] = beta[idle] = mean[idle] = 0
        if name == "expand":
            kernel[..., idle] = 0
        layer.set_weights([kernel, bias])
        norm.set_weights([gamma, beta, mean, variance])
    net = reloaded(net, folder / "whole.keras")
    freeze(net)
    smaller, _ = prune.prune(net, 24 / 64)
    images = inputs()
    maps = [network.features_network(one, pooled=False)(images) for one in (net, smaller)]
    before = kernels(smaller)
    state = folder / "recovery"
    sets = pictures(), pictures(8)
    prune.recover(smaller, *sets, epochs=1, learning_rate=0.01, state=state)
    return {
        "off": float(np.abs(np.subtract(*maps)).max()),
        "strength": float(np.std(maps[0])),
        "channels": network.part(smaller, network.BACKBONE).get_layer("expand").filters,
        "trained": changed(before, kernels(smaller)),
    }


def freeze(net: Any) -> None:
    """Freeze the backbone's layers, as fine-tuning does."""
    for layer in network.part(net, network.BACKBONE).layers:
        layer.trainable = False


def norm_after(backbone: Any, name: str) -> Any:
    """Return the batch norm behind a convolution."""
    return backbone.layers[backbone.layers.index(backbone.get_layer(name)) + 1]


def trained_quantized(folder: Path) -> dict[str, Any]:
    net = reloaded(joined(tiny()), folder / "float.keras")
    freeze(net)
    backbone = network.part(net, network.BACKBONE)
    norm = norm_after(backbone, "stem")
    before, mean = kernels(net), norm.moving_mean.numpy()
    sets = pictures(), pictures(8)
    state = folder / "qat"
    found = qat.train_quantized(net, *sets, epochs=1, learning_rate=0.01, state=state)
    return {
        "trained": changed(before, kernels(found)),
        "statistics": float(np.abs(norm.moving_mean.numpy() - mean).max()),
    }


def rounded(folder: Path) -> dict[str, Any]:
    """Measure how fake quantization rounds: kernels of uneven channels, and the whole network."""
    net = reloaded(joined(tiny()), folder / "rounded.keras")
    copy = qat._fake_quantized_copy(net)
    images = inputs()
    copy(images, training=True)
    off = np.abs(copy.predict_on_batch(images) - net.predict_on_batch(images)).max()
    features = network.features_network(copy, pooled=False).predict_on_batch(images)
    return {
        "network": float(off),
        "levels": len(np.unique(features)),
        "values": features.size,
        "Conv2D": error(GENERATOR.normal(size=(3, 3, 5, 4)) * [1e-3, 1, 10, 1e3], -1),
        "DepthwiseConv2D": error(
            GENERATOR.normal(size=(3, 3, 4, 1)) * np.reshape([1e-3, 1, 10, 1e3], (4, 1)), 2
        ),
        "Dense": error(GENERATOR.normal(size=(9, 4)) * [1e-3, 1, 10, 1e3], -1),
    }


def error(kernel: Any, channels: int) -> list[float]:
    """Return the largest rounding error of each channel, in steps of its int8 scale."""
    made = qat._quantized_kernel(
        runtime.load()[1].constant(kernel, "float32"), is_depthwise=channels == 2
    )
    axes = tuple(axis for axis in range(kernel.ndim) if axis != channels % kernel.ndim)
    steps = np.abs(kernel).max(axes) / 127
    return [float(one) for one in np.abs(made.numpy() - kernel).max(axes) / steps]


def reshaping(folder: Path) -> list[int]:
    """Train a network that squeezes and excites, as EfficientNet does."""
    keras, _ = runtime.load()
    layers = keras.layers
    image = keras.Input((SIDE_PX, SIDE_PX, 3))
    stem = normed(layers.Conv2D(8, 3, 4)(image))
    squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(stem))
    excited = layers.Conv2D(8, 1, activation="sigmoid")(squeezed)
    net = joined(keras.Model(image, layers.Multiply()([stem, excited])))
    net = reloaded(net, folder / "excited.keras")
    sets = pictures(8), pictures(8)
    qat.train_quantized(net, *sets, epochs=1, learning_rate=0.01, state=folder / "excited")
    return [len(answer) for answer in net.predict_on_batch(inputs())]


def fine_tuned(folder: Path) -> dict[str, Any]:
    """Fine-tune three layers or all, after a head that was worse or better."""
    found = {}
    for name, count, loss in (("three", 3, math.inf), ("all", -1, math.inf), ("better", 3, 0.0)):
        net = joined(tiny())
        norm = norm_after(network.part(net, network.BACKBONE), "last")
        before, statistics = kernels(net), norm.get_weights()
        training = msgspec.structs.replace(TRAINING, fine_tune_layers=count, fine_tune_epochs=2)
        sets = pictures(), pictures(8)
        head = Epoch(stage=train.HEAD, number=1, loss=1, learning_rate=1, val_loss=loss)
        run = train.Run(training, NAMES, *sets, folder / name)
        history = train._fine_tune(run, net, lambda *_: None, head)
        found[name] = {
            "trained": changed(before, kernels(net)),
            "norm": not np.array_equal(statistics, norm.get_weights()),
            "rates": [epoch.learning_rate for epoch in history],
        }
    return found


def kernels(net: Any) -> dict[str, Any]:
    found = {
        layer.name: layer.get_weights()[0]
        for name in (network.BACKBONE, network.HEAD)
        for layer in network.part(net, name).layers
        if hasattr(layer, "kernel")
    }
    return found | {network.ADAPTER: network.part(net, network.ADAPTER).get_weights()[0]}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name, value in before.items() if (value != after[name]).any())


if __name__ == "__main__":
    runtime.load()[0].utils.set_random_seed(1)
    parts = (explained, pruned, trained_quantized, rounded, reshaping, fine_tuned)
    facts = {part.__name__: part(Path(sys.argv[1]) / part.__name__) for part in parts}
    sys.stdout.write(json.dumps(facts) + "\n")
