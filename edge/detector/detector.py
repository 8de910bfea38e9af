"""The detector that the pipeline runs, with any of the decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edge.detector.candidates import CandidateSource
from edge.detector.input_size import size_for
from edge.detector.letterbox import Letterbox, check_frame
from edge.detector.ssd_postprocess import SsdPostprocessDecoder
from edge.detector.suppression import suppress
from edge.detector.yolov5 import Yolov5Decoder
from edge.detector.yolov8 import Yolov8Decoder
from edge.detector.yolox import YoloxDecoder
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.manifest import Manifest
from edge.values import Detection, Image

DECODERS: Mapping[str, Callable[[Manifest, float], CandidateSource]] = {
    "yolox": YoloxDecoder,
    "yolov5": Yolov5Decoder,
    "yolov8": Yolov8Decoder,
    "ssd_postprocess": SsdPostprocessDecoder,
}


class _AtSize(NamedTuple):
    """The parts that depend on the input's size."""

    letterbox: Letterbox
    decoder: CandidateSource


class Detector:
    """Finds objects: call `detect`, or its three stages one by one to time each.

    interpreter: loaded with a model of task `detect`. min_score: 0..1, lower scores are dropped.
    Raises ModelError when the model has another task or an unknown decoder.
    If the model's input follows the frame, it is resized when the frames' shape changes.
    """

    def __init__(self, interpreter: Interpreter, *, min_score: float) -> None:
        model = interpreter.manifest
        make_decoder = DECODERS.get(model.decoder.name)
        if model.task != "detect" or make_decoder is None:
            raise ModelError(
                f"model {model.name}: task {model.task}, decoder {model.decoder.name}; "
                f"the detector needs a model of task detect with decoder {', '.join(DECODERS)}"
            )
        self.min_score = min_score
        self._interpreter = interpreter
        self._model = model
        self._make_decoder = make_decoder
        self._sizes: dict[tuple[int, int], _AtSize] = {}
        self._current = self._at_size(model.input.size)

    def detect(self, bgr: Image) -> list[Detection]:
        """Return at most `MAX_DETECTIONS` objects, best first.

        bgr: uint8, (height, width, 3), any size from 1x1; not modified.
        Raises ValueError for an empty or wrongly shaped frame.
        """
        self.preprocess(bgr)
        self.invoke()
        height, width = bgr.shape[:2]
        return self.decode((width, height))

    def preprocess(self, bgr: Image) -> None:
        """Letterbox a frame into the network's input tensor; see `detect`."""
        check_frame(bgr)
        self._resize_for((bgr.shape[1], bgr.shape[0]))
        self._current.letterbox.write(bgr, self._interpreter.input_view())

    def invoke(self) -> None:
        """Run the network."""
        self._interpreter.invoke()

    def decode(self, frame_size: tuple[int, int]) -> list[Detection]:
        """Return the objects in the network's current outputs, best first.

        frame_size: (width, height) in pixels of the frame given to `preprocess`.
        """
        candidates = self._current.decoder.candidates(self._interpreter)
        nms_iou = self._model.decoder.nms_iou
        found, _ = suppress(candidates, nms_iou, self.min_score)
        corners_px = self._current.letterbox.in_frame(found.corners, frame_size)
        return found.detections(corners_px, self._model.labels)

    def _resize_for(self, frame_size: tuple[int, int]) -> None:
        """Give the network's input the size for a frame of (width, height)."""
        size = size_for(self._model, frame_size)
        if size != self._interpreter.input_size:
            self._interpreter.resize(size)
        self._current = self._at_size(size)

    def _at_size(self, size: tuple[int, int]) -> _AtSize:
        if size not in self._sizes:
            model = self._model
            resized = model.at_size(size) if size != model.input.size else model
            decoder = self._make_decoder(resized, self.min_score)
            self._sizes[size] = _AtSize(Letterbox(resized.input), decoder)
        return self._sizes[size]
