"""Checks that a manifest is consistent: its decoder can turn its outputs into labelled results.

The check runs when a model is loaded, so that decoders need not check shapes for each frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edge.manifest import Manifest, Role, TensorSpec

_YOLOX_OUTPUTS = ("box", "objectness", "class")  # of each stride
ROLES: tuple[Role, ...] = ("boxes", "classes", "scores", "count")


def contradiction(model: Manifest) -> str:
    """Return why the decoder cannot turn the outputs into results; empty when it can."""
    named = len(model.decoder.class_ids)
    if named and named != len(model.labels):
        return f"{len(model.labels)} labels, but {named} class_ids"
    if model.input.is_float and not model.allow_float:
        return "a float input, but no allow_float"
    return _RULES[model.decoder.name](model) or _other_sizes(model)


def _other_sizes(model: Manifest) -> str:
    """Return why the input cannot follow the frame although the manifest says so, else empty."""
    if not model.input.follows_frame:
        return ""
    is_ours = model.decoder.name == "yolox" and model.decoder.strides
    if not is_ours or model.input.resize != "letterbox":
        return "follows_frame, which needs decoder yolox, its strides and a letterbox"
    sides = model.input.size
    if any(side % stride for side in sides for stride in model.decoder.strides):
        return f"follows_frame, but strides {model.decoder.strides} do not divide {sides}"
    strides = {
        f"{name}_{stride}": stride for name in _YOLOX_OUTPUTS for stride in model.decoder.strides
    }
    for output in model.outputs:
        stride = strides.get(output.name, 1)
        if output.shape[1:3] != (sides[1] // stride, sides[0] // stride):
            return f"follows_frame, but output {output.name} is {output.shape} for input {sides}"
    return ""


def _one_per_label(model: Manifest) -> str:
    shapes = {output.name: output.shape for output in model.outputs}
    cells = shapes.pop("cells", None)
    sizes = [math.prod(shape) for shape in shapes.values()]
    count = len(model.labels)
    if sizes != [count]:
        return f"{count} labels, but outputs of {sizes} values"
    if cells is not None and (len(cells) != 4 or cells[3] != count):
        return f"output cells is {cells}, expected {count} channels"
    return ""


def _yolox(model: Manifest) -> str:
    outputs = {output.name: output for output in model.outputs}
    channels = dict(zip(_YOLOX_OUTPUTS, (4, 1, len(model.labels)), strict=True))
    if model.decoder.class_ids:
        return "class_ids, which decoder yolox does not know"
    for stride in model.decoder.strides:
        for name, count in channels.items():
            fault = _cell_fault(f"{name}_{stride}", outputs, count)
            if fault:
                return fault
        if len({outputs[f"{name}_{stride}"].shape[:3] for name in channels}) > 1:
            return f"the outputs of stride {stride} have different numbers of cells"
    return ""


def _cell_fault(name: str, outputs: Mapping[str, TensorSpec], channels: int) -> str:
    output = outputs.get(name)
    shape = output.shape if output else ()
    if len(shape) != 4 or shape[3] != channels:
        return f"output {name} is {shape}, expected {channels} channels"
    return f"output {name} is float, decoder yolox needs int8" if output and output.is_float else ""


def _candidates(before_classes: int) -> Callable[[Manifest], str]:
    """Return the rule for decoders with one output; before_classes: channels before the classes."""

    def rule(model: Manifest) -> str:
        shapes = [output.shape for output in model.outputs]
        if len(shapes) != 1 or len(shapes[0]) != 3:
            return f"outputs {shapes}, but decoder {model.decoder.name} reads one of three axes"
        channels = shapes[0][1 if model.decoder.channels_first else 2]
        classes = max(model.decoder.class_ids, default=len(model.labels) - 1) + 1
        fits = channels >= before_classes + classes
        if not fits or (not model.decoder.class_ids and channels != before_classes + classes):
            return f"{classes} classes, but {channels} channels of which {before_classes} are none"
        return ""

    return rule


def _ssd_postprocess(model: Manifest) -> str:
    shapes = {output.name: output.shape for output in model.outputs}
    missing = [role for role in ROLES if model.decoder.roles.get(role) not in shapes]
    if missing:
        return f"decoder.roles names no output as {', '.join(missing)}"
    boxes, classes, scores, _ = (shapes[model.decoder.roles[role]] for role in ROLES)
    if len(boxes) != 3 or boxes[2] != 4 or not classes == scores == boxes[:2]:
        return f"boxes {boxes}, classes {classes}, scores {scores} do not belong together"
    return ""


_RULES: Mapping[str, Callable[[Manifest], str]] = {
    "color_shares": _one_per_label,
    "probabilities": _one_per_label,
    "yolox": _yolox,
    "yolov5": _candidates(5),
    "yolov8": _candidates(4),
    "ssd_postprocess": _ssd_postprocess,
}
