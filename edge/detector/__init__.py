"""Detects objects in a frame: letterbox, network, and a decoder for each family of detectors.

Method: write the frame directly into the input tensor, run the network, turn its outputs into
candidates with the decoder that the manifest names, merge overlaps within a class, and scale the
boxes to the frame. Decoders compare quantized scores with a quantized threshold. Only scores that
reach it become floats, by tables of all 256 values. Float outputs (third-party models) are used as
they are.
`yolox` is our own family; `yolov5`, `yolov8` and `ssd_postprocess` read third-party models, whose
manifests `edge-tools import-model` writes.
"""

from edge.detector.candidates import Candidates, quantized_level, quantized_logit
from edge.detector.detector import Detector
from edge.detector.letterbox import Letterbox
from edge.detector.suppression import MAX_DETECTIONS, suppress

__all__ = [
    "MAX_DETECTIONS",
    "Candidates",
    "Detector",
    "Letterbox",
    "quantized_level",
    "quantized_logit",
    "suppress",
]
