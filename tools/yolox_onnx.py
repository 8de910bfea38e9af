"""YOLOX-Nano on ONNX Runtime in float32, which the benchmark compares with the daemon's detector.

It performs all steps of the daemon: letterbox, network, candidates, suppression, boxes in the
frame. The published file's output is (1, cells, 85): x and y offset and log size in cells,
objectness, 80 class scores; cells are in row order, at strides 8, 16 and 32. Source: Megvii's
YOLOX.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from edge.detector import Candidates, Letterbox, suppress
from edge.detector.candidates import Floats, corners_of
from edge.errors import ModelError, brief
from edge.manifest import Manifest
from edge.values import Detection, Image
from tools.coco_labels import NAMES

_OBJECTNESS, _BEFORE_CLASSES = 4, 5


def write_at_size(path: Path, size: tuple[int, int], output: Path) -> None:
    """Write the published network with another input size (width, height), multiples of 32.

    Raises ModelError when the file is not the published YOLOX-Nano.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        network = onnx.load(path)
        (image,), (answer,) = network.graph.input, network.graph.output
        for axis, side in ((2, size[1]), (3, size[0])):
            image.type.tensor_type.shape.dim[axis].dim_value = side
        answer.type.tensor_type.shape.dim[1].Clear()  # the number of cells depends on the size
        del network.graph.value_info[:]
        onnx.save(onnx.shape_inference.infer_shapes(network), output)
    except (DecodeError, LookupError, ValueError) as error:
        reason = brief(error)
        raise ModelError(f"{path}: not the published yolox_nano.onnx ({reason})") from None


class YoloxOnnx:
    """The network on one thread.

    path: file from `write_at_size`. model: manifest of the int8 network, whose labels, letterbox
    and suppression are used. min_score: 0..1.
    """

    def __init__(self, path: Path, model: Manifest, *, min_score: float) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (image,) = self._session.get_inputs()
        height, width = image.shape[2:]
        self._input_name = image.name
        shape = (1, height, width, 3)
        self._letterbox = Letterbox(
            msgspec.structs.replace(model.input, dtype="float32", shape=shape)
        )
        self._batch = np.zeros((1, 3, height, width), np.float32)
        self._columns = _BEFORE_CLASSES + np.array([NAMES.index(name) for name in model.labels])
        self._cells, self._strides_px = _grid((width, height), model.decoder.strides)
        self._model = model
        self._min_score = min_score

    def detect(self, bgr: Image) -> list[Detection]:
        """Return the objects of a frame, uint8 (height, width, 3), best first."""
        self._letterbox.write(bgr, self._batch[0].transpose(1, 2, 0))
        output = self._session.run(None, {self._input_name: self._batch})[0][0]
        max_iou = self._model.decoder.nms_iou
        found, _ = suppress(self._candidates(output), max_iou, self._min_score)
        corners_px = self._letterbox.in_frame(found.corners, (bgr.shape[1], bgr.shape[0]))
        return found.detections(corners_px, self._model.labels)

    def _candidates(self, output: Floats) -> Candidates:
        """Return the candidates that reach the minimum score, boxes in input pixels."""
        cells = np.flatnonzero(output[:, _OBJECTNESS] >= self._min_score)
        scores = output[cells, _OBJECTNESS, None] * output[cells[:, None], self._columns]
        rows, classes = np.nonzero(scores >= self._min_score)
        chosen = cells[rows]
        strides_px = self._strides_px[chosen]
        centers = (output[chosen, :2] + self._cells[chosen]) * strides_px
        sides = np.exp(output[chosen, 2:_OBJECTNESS]) * strides_px
        return Candidates(scores[rows, classes], classes, corners_of(centers, sides))


def _grid(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return column and row of each cell (n, 2), and its stride in pixels (n, 1)."""
    cells, strides_px = [], []
    for stride in strides:
        columns, rows = size[0] // stride, size[1] // stride
        row, column = np.divmod(np.arange(rows * columns), columns)
        cells.append(np.stack([column, row], 1).astype(np.float32))
        strides_px.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides_px)
