"""Converts a network to .tflite at each level of quantization, by TensorFlow's own converter.

TL  plain TFLite, float32         FF  int8, float in and out, float where int8 is not to be had
F16 weights as float16            IO  integers only, int8 in and out
DR  int8 weights, float between
Weights of convolutions are quantized channel by channel; ranges of activations are the minimum
and maximum over the representative pictures.
Source: the TensorFlow Lite guide, post-training quantization.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edge.errors import ModelError, brief
from tools.classifier import runtime
from tools.classifier.data import Pixels, network_input

LEVELS = ("NQ", "TL", "F16", "DR", "FF", "IO")
DESCRIPTIONS = {
    "NQ": "Keras, float32",
    "TL": "TFLite, float32",
    "F16": "TFLite, float16 weights",
    "DR": "TFLite, dynamic range: int8 weights",
    "FF": "TFLite, int8 with float fallback",
    "IO": "TFLite, integer only",
}
CALIBRATED = frozenset({"FF", "IO"})


def convert(network: Any, level: str, representative: Pixels) -> bytes:
    """Return the .tflite file of a network, float32 (n, side, side, 3) -> (n, classes).

    representative: uint8, (n, side, side, 3); used only by FF and IO.
    Raises ModelError when the converter refuses the network.
    """
    _, tensorflow = runtime.load()
    lite = tensorflow.lite
    with runtime.quiet():
        converter = lite.TFLiteConverter.from_concrete_functions([_frozen(network)])
        if level != "TL":
            converter.optimizations = [lite.Optimize.DEFAULT]
        if level == "F16":
            converter.target_spec.supported_types = [tensorflow.float16]
        if level in CALIBRATED:
            converter.representative_dataset = lambda: _calibration(representative)
        if level == "IO":
            converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tensorflow.int8
            converter.inference_output_type = tensorflow.int8
        try:
            return bytes(converter.convert())
        except (RuntimeError, ValueError, lite.ConverterError) as error:
            reason = brief(error, 300)
            raise ModelError(
                f"level {level}: the converter refuses this network: {reason}"
            ) from None


def _frozen(network: Any) -> Any:
    """Return the network as a function for one picture, with its weights frozen to constants."""
    _, tensorflow = runtime.load()
    from tensorflow.python.framework import convert_to_constants

    shape = (1, *network.input.shape[1:])
    function = tensorflow.function(lambda image: network(image, training=False))
    traced = function.get_concrete_function(
        tensorflow.TensorSpec(shape, tensorflow.float32, "image")
    )
    return convert_to_constants.convert_variables_to_constants_v2(traced)


def _calibration(representative: Pixels) -> Iterator[list[np.ndarray[Any, Any]]]:
    """Yield the pictures one by one as network inputs.

    Two corner pixels of the first are set to black and white, so that the input's range is always
    the full 8-bit range and its scale exactly 1/128.
    """
    for number, rgb in enumerate(representative):
        image = network_input(np.array(rgb)[None])
        if number == 0:
            image[0, 0, 0], image[0, 0, 1] = -1.0, 127 / 128
        yield [image]
