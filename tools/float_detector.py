"""The float original with the daemon's letterbox: the reference for quantized models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge.detector import Candidates, suppress
from edge.detector.candidates import sigmoid
from edge.detector.input_size import fitting
from edge.values import Detection, Image
from tools.architectures import yolox
from tools.input_size import STRIDE, InputSize
from tools.quantize.ranges import PIXELS, batches
from tools.quantize_detect import NMS_IOU, letterboxed

Floats = NDArray[np.float32]


class FloatDetector:
    """YOLOX-Nano in float32 at an input of `size`; slow, for measurements only.

    weights: yolox_nano.onnx or a best.pt. min_score: 0..1, as for `edge.detector.Detector`.
    labels: wanted classes, see `yolox.load`. follows_frame: as in a manifest, see `edge.manifest`.
    """

    def __init__(
        self,
        weights: Path,
        size: InputSize,
        *,
        min_score: float,
        labels: Sequence[str] | None = None,
        follows_frame: bool = False,
    ) -> None:
        self._net = yolox.load(weights, labels=labels)
        self.labels: Sequence[str] = self._net.labels
        self._size = size
        self._follows_frame = follows_frame
        self._min_score = min_score
        self._batch = torch.zeros(1, 3, size.height, size.width)

    def invoke(self) -> dict[str, Floats]:
        """Run the network on the last picture; return its outputs."""
        with torch.no_grad():
            return {name: value[0].numpy() for name, value in self._net(self._batch).items()}

    def detect(self, bgr: Image) -> list[Detection]:
        """Return the objects of a frame, uint8 (height, width, 3), best first."""
        size = self._size_for(bgr)
        (self._batch,) = batches([letterboxed(bgr, size)], PIXELS, 1)
        outputs = self.invoke()
        strides = [self._candidates(outputs, stride) for stride in yolox.STRIDES]
        candidates = Candidates(*(np.concatenate(parts) for parts in zip(*strides, strict=True)))
        found, _ = suppress(candidates, NMS_IOU, self._min_score)
        ratio = max(bgr.shape[1] / size.width, bgr.shape[0] / size.height)
        limits = np.array([bgr.shape[1], bgr.shape[0]] * 2)
        return found.detections(np.clip(found.corners * ratio, 0, limits), self.labels)

    def _size_for(self, bgr: Image) -> InputSize:
        if not self._follows_frame:
            return self._size
        return InputSize(*fitting(self._size, STRIDE, (bgr.shape[1], bgr.shape[0])))

    def _candidates(self, outputs: dict[str, Floats], stride: int) -> Candidates:
        """Return the candidates of one stride's cells."""
        objectness = sigmoid(outputs[f"objectness_{stride}"])
        scores = objectness * sigmoid(outputs[f"class_{stride}"])
        classes, rows, columns = np.nonzero(scores >= self._min_score)
        box = outputs[f"box_{stride}"][:, rows, columns]
        centers = (box[:2] + np.stack([columns, rows])) * stride
        half = np.exp(box[2:]) * (stride / 2)
        corners = np.concatenate([centers - half, centers + half]).T
        return Candidates(scores[classes, rows, columns], classes, corners)
