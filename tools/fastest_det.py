"""FastestDet in float on ONNX Runtime: a published baseline for comparison.

Decoding: per cell of the last map objectness, box and softmax of 80 classes; score =
objectness^0.6 * class^0.4; center = (cell + tanh) / map, size = sigmoid, as shares of the picture.
Source: github.com/dog-qiuqiu/FastestDet, example of its ONNX export. Input BGR / 255, stretched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.detector import Candidates, suppress
from edge.detector.candidates import Floats, corners_of, sigmoid
from edge.errors import ModelError
from edge.values import Detection, Image
from tools.coco_labels import NAMES

NMS_IOU = 0.45
OBJECTNESS_POWER, CLASS_POWER = 0.6, 0.4
_BEFORE_CLASSES = 5


class FastestDet:
    """FastestDet on one thread. min_score: 0..1, as for `edge.detector.Detector`.

    Raises ModelError when the file is not FastestDet of 80 classes.
    """

    labels = NAMES

    def __init__(self, path: Path, *, min_score: float) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (spec,) = self._session.get_inputs()
        self._input_name = spec.name
        _, _, self.height, self.width = spec.shape
        channels = self._session.get_outputs()[0].shape[1]
        if channels != _BEFORE_CLASSES + len(NAMES):
            raise ModelError(f"{path}: {channels} channels, FastestDet of 80 classes has 85")
        self._min_score = min_score
        self._batch = np.zeros((1, 3, self.height, self.width), np.float32)

    def detect(self, bgr: Image) -> list[Detection]:
        """Return the objects of a frame, uint8 (height, width, 3), best first."""
        self._batch = self._prepared(bgr)
        return self._decoded(self.invoke(), (bgr.shape[1], bgr.shape[0]))

    def invoke(self) -> NDArray[Any]:
        """Run the network on the last picture; return its output, (85, rows, columns)."""
        output: NDArray[Any] = self._session.run(None, {self._input_name: self._batch})[0][0]
        return output

    def _prepared(self, bgr: Image) -> Floats:
        size = (self.width, self.height)
        stretched = cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR_EXACT)
        planes = stretched.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(planes)

    def _decoded(self, output: NDArray[Any], frame_size: tuple[int, int]) -> list[Detection]:
        best = output[_BEFORE_CLASSES:].argmax(0)
        sure = output[_BEFORE_CLASSES:].max(0)
        scores = output[0] ** OBJECTNESS_POWER * sure**CLASS_POWER
        rows, columns = np.nonzero(scores >= self._min_score)
        corners = _corners(output[1:5, rows, columns], np.stack([columns, rows]), scores.shape)
        classes = best[rows, columns].astype(np.intp)
        candidates = Candidates(scores[rows, columns], classes, corners)
        found, _ = suppress(candidates, NMS_IOU, self._min_score)
        return found.detections(np.clip(found.corners, 0, 1) * np.array(frame_size * 2), NAMES)


def _corners(offsets: Floats, cells: NDArray[Any], shape: tuple[int, ...]) -> Floats:
    """Return box corners (n, 4) as shares of the picture."""
    rows, columns = shape
    centers = (np.tanh(offsets[:2]) + cells) / np.array([[columns], [rows]])
    return corners_of(centers.T, sigmoid(offsets[2:]).T)
