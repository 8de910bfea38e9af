"""Objects of one frame: letterbox, network, and one decoder for each family of detectors.

Method: write the frame straight into the input tensor, run the network, let the decoder that the
manifest names turn outputs into candidates, merge overlaps within a class, scale to the frame.
Decoders compare quantized scores with a quantized threshold and turn only what reaches it into
floats, by tables of all 256 values; outputs in float (other people's models) are taken as they are.
`yolox` is our own family; `yolov5`, `yolov8` and `ssd_postprocess` read other people's files, whose
manifests `edge-tools import-model` writes.
"""

from edge.detector.candidates import Candidates, quantized_level, quantized_logit
from edge.detector.detector import Detector
from edge.detector.letterbox import Letterbox, lookup_table
from edge.detector.suppression import MAX_DETECTIONS, suppress

__all__ = [
    "MAX_DETECTIONS",
    "Candidates",
    "Detector",
    "Letterbox",
    "lookup_table",
    "quantized_level",
    "quantized_logit",
    "suppress",
]
