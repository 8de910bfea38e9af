"""Runs edge-tools commands one after another in one process: TensorFlow is imported once.

Standard input: a JSON list of argument lists. Standard output: a JSON list of [code, out, err].
Adds the backbone TinyNet to Keras's own: the smallest of those takes TensorFlow half a minute.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

from tools import cli
from tools.classifier import runtime


def preprocess_input(levels: Any) -> Any:
    """Return what TinyNet takes: 0..1, blue first, so that an adapter is needed."""
    return levels[..., ::-1] / 255


def tiny_net(*, input_shape: tuple[int, ...], include_top: bool, weights: str | None) -> Any:
    """Return an inverted residual between two convolutions, 8 pixels a place."""
    assert not include_top
    assert weights is None
    keras, _ = runtime.load()
    layers = keras.layers
    image = keras.Input(input_shape)
    stem = normed(layers.Conv2D(16, 3, 4, padding="same", name="stem")(image))
    wide = normed(layers.Conv2D(64, 1, name="expand")(stem))
    wide = normed(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(wide))
    narrow = layers.BatchNormalization()(layers.Conv2D(16, 1, name="project")(wide))
    added = layers.Add()([stem, narrow])
    return keras.Model(image, normed(layers.Conv2D(24, 3, 2, name="last")(added)))


def normed(value: Any) -> Any:
    layers = runtime.load()[0].layers
    return layers.ReLU(6.0)(layers.BatchNormalization()(value))


def run(arguments: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    keras, _ = runtime.load()
    keras.applications.TinyNet = tiny_net
    answers = [run(arguments) for arguments in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(answers) + "\n")
