"""Reads files of YOLOX-Nano's float weights: the published ONNX, or a .pt from `yolox.save`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edge.errors import InputError
from tools import tensor_file
from tools.coco_labels import NAMES

PUBLISHED = "YOLOX-Nano, COCO (Megvii, Apache-2.0)"
LABELS = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "bird", "cat", "dog")
# The original stacks a block's even and odd pixels as (0,0), (1,0), (0,1), (1,1); SPACE_TO_DEPTH
# as (0,0), (0,1), (1,0), (1,1).
_FOCUS_ORDER = (0, 2, 1, 3)


@dataclass(frozen=True)
class Stored:
    """Content of a file: labels of the class outputs, weight and bias of each convolution.

    origin: of the weights, human-readable. is_rectified: see `yolox.Stem`.
    """

    labels: tuple[str, ...]
    origin: str
    convolutions: list[tuple[Tensor, Tensor]]
    is_rectified: bool = False

    @property
    def default_labels(self) -> tuple[str, ...]:
        """Return the file's labels; for the published file, those of our detectors."""
        return LABELS if self.labels == NAMES else self.labels


def read(path: Path) -> Stored:
    """Return a file's content. Raises InputError when it is unreadable or neither of the two."""
    try:
        return _read_saved(path) if path.suffix == ".pt" else _read_published(path)
    except IsADirectoryError:
        raise tensor_file.a_folder(path) from None
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}") from None
    except tensor_file.UNREADABLE:
        raise InputError(
            f"weights {path}: neither yolox_nano.onnx nor a best.pt of `train detect`"
        ) from None


def _read_saved(path: Path) -> Stored:
    stored = torch.load(path, weights_only=True)
    return Stored(
        tuple(stored["labels"]),
        str(stored["origin"]),
        stored["convolutions"],
        bool(stored.get("is_rectified", False)),  # old files lack this key
    )


def _read_published(path: Path) -> Stored:
    """Read an ONNX file, whose convolutions are in the order of `YoloxNano`'s."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import checker, numpy_helper

    try:  # with the format, which onnx would otherwise guess from the suffix
        graph = onnx.load(path, format="protobuf").graph
    except (DecodeError, checker.ValidationError) as error:  # or with external data
        raise ValueError("not an ONNX file") from error
    values = {item.name: torch.tensor(numpy_helper.to_array(item)) for item in graph.initializer}
    found = [
        (values[node.input[1]], values[node.input[2]])
        for node in graph.node
        if node.op_type == "Conv"
    ]
    return Stored(NAMES, PUBLISHED, [_reordered(found[0]), *found[1:]])


def _reordered(stem: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the first convolution with its input channels in SPACE_TO_DEPTH's order."""
    weight, bias = stem
    blocks = weight.reshape(len(weight), 4, 3, 3, 3)
    return blocks[:, list(_FOCUS_ORDER)].reshape(weight.shape), bias
