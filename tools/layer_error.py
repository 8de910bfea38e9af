"""Quantization error of each tensor of an int8 model: signal-to-noise ratio, worst first.

Method: both files run on the same pictures with all tensors preserved (built-in kernels, no
delegate). Each int8 tensor is dequantized and compared with the float file's tensor of the same
name and shape. The float file gets the dequantized int8 input, so the error is due to weights,
activations and rounding, not to the input. A layer's error includes that of all layers before it:
look for where the SNR drops, not for where it is low. Tensors that only a SiLU reads are clipped at
`tools.quantize.ranges.SILU_FLOOR`, so their own SNR may be low while that of the SiLU's output is
not.
SNR = 10 log10(mean square of the float values / mean square of the difference), in dB; one bit
equals 6 dB, and below 10 dB little of the signal is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import lookup
from edge.errors import ModelError
from edge.interpreter import load_engine
from tools import plots

SILENT_DB = 200.0  # reported for equal tensors
_SIDES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class LayerError:
    """Error of one tensor. snr_db: see above. worst_steps: largest difference, in its scale.

    clipped: share of values beyond the tensor's range, 0..1; large if the range is too small.
    """

    name: str
    snr_db: float
    worst_steps: float
    clipped: float


class TensorReader:
    """Runs a .tflite file and gives access to all its tensors."""

    def __init__(self, path: Path) -> None:
        """Load the file. Raises ModelError when the runtime refuses it."""
        try:
            content = lookup.content(path)
        except OSError as error:
            raise ModelError(f"model file {path}: {error.strerror}; name a .tflite file") from None
        self._engine = load_engine(content, path, xnnpack=False, keeps_tensors=True)
        self._details = self._engine.get_tensor_details()

    @property
    def input(self) -> dict[str, Any]:
        """Return the runtime's description of the one input."""
        found: dict[str, Any] = self._engine.get_input_details()[0]
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every tensor's shape by its name."""
        return {one["name"]: tuple(int(side) for side in one["shape"]) for one in self._details}

    def quantizations(self) -> dict[str, tuple[float, int]]:
        """Return the scale and zero point of every tensor that has one of each, by its name."""
        found = ((one["name"], one["quantization"]) for one in self._details)
        return {name: (float(scale), int(zero)) for name, (scale, zero) in found if scale > 0}

    def constant(self, name: str) -> NDArray[np.float64]:
        """Return a symmetrically quantized constant as real numbers, in its stored shape."""
        detail = next(one for one in self._details if one["name"] == name)
        scales = detail["quantization_parameters"]["scales"]
        axis = detail["quantization_parameters"]["quantized_dimension"]
        stored = np.moveaxis(self._engine.get_tensor(detail["index"]), axis, -1)
        return np.moveaxis(stored * scales.astype(np.float64), -1, axis)

    def run(self, value: NDArray[Any]) -> dict[str, tuple[NDArray[Any], dict[str, Any]]]:
        """Return every computed tensor with its description, by name."""
        self._engine.set_tensor(self.input["index"], value)
        self._engine.invoke()
        found = {}
        for detail in self._details:
            try:
                found[detail["name"]] = (self._engine.get_tensor(detail["index"]), detail)
            except ValueError:  # not filled: constant of an operator that was folded
                continue
        return found


def compare(int8: Path, original: Path, pictures: Sequence[NDArray[np.uint8]]) -> list[LayerError]:
    """Return the errors of all tensors that both files have, worst first.

    pictures: uint8 (height, width, 3) of any size, in the network's color order.
    Raises ModelError when the files have no tensor in common or different input shapes.
    """
    quantized, floating = TensorReader(int8), TensorReader(original)
    if tuple(quantized.input["shape"]) != tuple(floating.input["shape"]):
        raise ModelError(f"{original}: another input shape than {int8}; name its own original")
    sums: dict[str, _Sum] = {}
    for picture in pictures:
        stored = _quantized_input(picture, quantized.input)
        real = _dequantized(stored, quantized.input).astype(np.float32)
        wanted = {name: value for name, (value, _) in floating.run(real).items()}
        add(sums, quantized.run(stored), wanted)
    if not sums:
        raise ModelError(f"{original}: no tensor in common with {int8}; name its own original")
    return finish(sums)


def compare_graph(
    int8: Path, graph: Any, pictures: Sequence[NDArray[np.uint8]]
) -> list[LayerError]:
    """Return the errors of a file against the float graph that it was written from.

    graph: `tools.quantize.Graph` with its float weights; tensors have its nodes' names.
    pictures: as `compare` takes them.
    """
    import torch

    quantized = TensorReader(int8)
    sums: dict[str, _Sum] = {}
    for picture in pictures:
        stored = _quantized_input(picture, quantized.input)
        real = _dequantized(stored, quantized.input).astype(np.float32).transpose(0, 3, 1, 2)
        recorder = _Recorder({})
        with torch.no_grad():
            graph(torch.from_numpy(np.ascontiguousarray(real)), recorder)
        named = {name: recorder.values[source] for name, source in graph.outputs.items()}
        add(sums, quantized.run(stored), recorder.values | named)
    return finish(sums)


def compare_detector(
    int8: Path, weights: Path, pictures: Sequence[NDArray[np.uint8]]
) -> list[LayerError]:
    """Return the errors of a YOLOX-Nano file against its float weights, worst first.

    weights: yolox_nano.onnx or a .pt of `train detect`. pictures: uint8 (height, width, 3) BGR.
    `quantize detect` reorders the stem's channels; they are matched by their kernels. The stem's
    vertical convolution has no counterpart and is left out.
    After quantization-aware training, the error includes what the training changed.
    Raises InputError, ModelError.
    """
    from tools.architectures import yolox, yolox_graph
    from tools.input_size import InputSize

    quantized = TensorReader(int8)
    names = [name for name in quantized.shapes() if yolox_graph.STEM_KERNELS.fullmatch(name)]
    if not names:
        raise ModelError(
            f"{int8}: not of our YOLOX-Nano, so --float needs a float .tflite, not {weights}"
        )
    kernels = [quantized.constant(name) for name in names]
    rank = kernels[0].shape[-1]
    together = np.concatenate(kernels)
    if rank < yolox.BLOCK_CHANNELS:
        vertical = quantized.constant(f"{yolox_graph.VERTICAL}_weight")[:, :, 0]
        together = np.einsum("nhwr,rvc->nvwc", together, vertical)
    order = iter(_match_kernels(together, yolox.stem_kernels(weights)))
    groups = [list(itertools.islice(order, len(part))) for part in kernels]
    _, height, width, _ = quantized.input["shape"]
    graph = yolox_graph.build(
        yolox.load(weights, groups), InputSize(int(width), int(height)), yolox.BLOCK_CHANNELS
    )
    return compare_graph(int8, graph, pictures)


def _match_kernels(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> list[int]:
    """Return for each found kernel the index of the most similar wanted one, each index once.

    Both (count, height, width, channels). Cosine similarity, because a kernel may be scaled.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    flat = found.reshape(len(found), -1), wanted.reshape(len(wanted), -1)
    return [int(place) for place in linear_sum_assignment(cdist(*flat, "cosine"))[1]]


@dataclass
class _Recorder:
    """A quantizer that changes nothing and records activations, (1, height, width, channel)."""

    values: dict[str, NDArray[Any]]

    def activation(self, name: str, value: Any) -> Any:
        self.values[name] = value.permute(0, 2, 3, 1).numpy() if value.ndim == 4 else value.numpy()
        return value

    def weight(self, _name: str, value: Any) -> Any:
        return value


def add(
    sums: dict[str, _Sum],
    found: Mapping[str, tuple[NDArray[Any], dict[str, Any]]],
    wanted: Mapping[str, NDArray[Any]],
) -> None:
    """Add one picture's tensors to the sums; skips those without a scale or a counterpart."""
    for name, (value, detail) in found.items():
        original = wanted.get(name)
        is_layer = detail["quantization"][0] > 0 and value.dtype.name in _SIDES
        if not is_layer or original is None or original.shape != value.shape:
            continue
        if original.dtype.kind == "f" and name != "":
            sums.setdefault(name, _Sum()).add(value, original.astype(np.float64), detail)


def finish(sums: Mapping[str, _Sum]) -> list[LayerError]:
    """Return the errors of all summed tensors, worst first."""
    return sorted((one.error(name) for name, one in sums.items()), key=lambda one: one.snr_db)


class _Sum:
    """Sums of squares of signal and difference over pictures."""

    def __init__(self) -> None:
        self._signal = self._noise = self._worst = 0.0
        self._clipped = self._count = 0

    def add(
        self, stored: NDArray[Any], wanted: NDArray[np.float64], detail: dict[str, Any]
    ) -> None:
        difference = _dequantized(stored, detail) - wanted
        low, high = _SIDES[stored.dtype.name]
        self._signal += float(np.square(wanted).sum())
        self._noise += float(np.square(difference).sum())
        self._worst = max(self._worst, float(np.abs(difference).max()) / detail["quantization"][0])
        is_end = (stored == low) | (stored == high)  # also true of a ReLU's zeros, which are exact
        self._clipped += int((is_end & (np.abs(difference) > detail["quantization"][0])).sum())
        self._count += stored.size

    def error(self, name: str) -> LayerError:
        snr_db = SILENT_DB
        if self._noise:
            snr_db = 10 * float(np.log10(max(self._signal, 1e-30) / self._noise))
        return LayerError(name, snr_db, self._worst, self._clipped / self._count)


def plot(errors: Sequence[LayerError], path: Path, *, title: str) -> None:
    """Write a bar chart of the SNR of the worst 40 tensors as PNG, worst at the top."""
    from matplotlib.figure import Figure

    shown = list(errors[:40])[::-1]
    figure = Figure(figsize=(9, 1.5 + 0.25 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(shown)), [one.snr_db for one in shown], color=plots.COLORS[0])
    names = [plots.literal(one.name[-60:]) for one in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=7)
    axes.margins(y=0.01)
    worst = f"signal to quantization noise, dB (the worst {len(shown)} of {len(errors)} tensors)"
    axes.set(title=plots.literal(title), xlabel=worst)
    plots.save(figure, path, dpi=100)


def _quantized_input(picture: NDArray[np.uint8], detail: dict[str, Any]) -> NDArray[Any]:
    """Return a picture in the input's type: for int8, level - 128."""
    _, height, width, channels = (int(size) for size in detail["shape"])
    if channels != 3:
        raise ModelError(f"its input has {channels} channels; only pictures are compared")
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    dtype = np.dtype(detail["dtype"])
    shifted = resized.astype(np.int16) - (128 if dtype == np.int8 else 0)
    return shifted.astype(dtype)[np.newaxis]


def _dequantized(stored: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float64]:
    scale, zero_point = detail["quantization"]
    real: NDArray[np.float64] = (stored.astype(np.float64) - zero_point) * scale
    return real
