"""The description of a model in its folder: `models/<name>/manifest.json`, decoded strictly.

`tools` writes the manifest when it packages a model. `edge.interpreter` reads it and refuses a
model file that differs from it. `edge.decoder_rules` checks that a manifest is consistent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge import durable, lookup
from edge.errors import ModelError, brief

MANIFEST_NAME = "manifest.json"

Task = Literal["detect", "color", "classify"]
Role = Literal["boxes", "classes", "scores", "count"]
Dtype = Literal["int8", "uint8", "float32"]
# What brokers refuse in a topic (MQTT 5.0, section 1.5.4), and what moves a terminal's cursor.
_CONTROL = "\x00-\x1f\x7f-\x9f"
_NO_CHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)
)
_LABEL_PATTERN = rf"^[^+#/{_CONTROL}{_NO_CHARACTERS}]{{1,64}}$(?!\n)"
_LINE_PATTERN = rf"^[^{_CONTROL}]{{1,128}}$(?!\n)"
PATTERNS = {
    _LABEL_PATTERN: "of 1 to 64 characters that an MQTT topic may have, none of them +, # or /",
    _LINE_PATTERN: "of 1 to 128 characters, none of them a control character",
}
Label = Annotated[str, Meta(pattern=_LABEL_PATTERN)]  # labels become MQTT topics
Line = Annotated[str, Meta(pattern=_LINE_PATTERN)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
# A name inside the model folder; never a path.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$(?!\n)")]


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the manifest's structs: frozen, keyword-only, unknown keys refused."""


class TensorSpec(Struct, frozen=True, kw_only=True):
    """One input or output tensor; real value = (quantized - zero_point) * scale.

    For a float tensor, in an imported model, scale is 1 and zero_point 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    scale: Positive
    zero_point: int

    @property
    def is_float(self) -> bool:
        """Whether the stored values are real numbers."""
        return self.dtype == "float32"


class Input(TensorSpec, frozen=True, kw_only=True):
    """The image tensor, (1, height, width, 3 + number of classes).

    color_order: order of the last axis.
    resize: `letterbox` keeps the aspect ratio and pads right and bottom with `pad_value`
        (0..255); `stretch` ignores it.
    range: the real values the network was trained on: `0..255`, `0..1` or `-1..1`.
    classes: object classes that have a plane each after the colors. The plane of the object's class
        is 127 everywhere; all other planes are the zero point. An object of none of these classes
        has no plane of 127.
    follows_frame: the network accepts other heights and widths, multiples of its largest stride,
        and the detector gives it the frame's aspect ratio; see `edge.detector.input_size`.
    """

    color_order: Literal["rgb", "bgr"]
    resize: Literal["letterbox", "stretch"]
    pad_value: Annotated[int, Meta(ge=0, le=255)] = 114
    range: Literal["0..255", "0..1", "-1..1"] = "0..255"
    classes: tuple[Label, ...] = ()
    follows_frame: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        _, height, width, _ = self.shape
        return width, height


class Decoder(Struct, frozen=True, kw_only=True):
    """How outputs are turned into results.

    name: `yolox`: per stride s the outputs `box_<s>`, `objectness_<s>`, `class_<s>` (logits);
        `yolov5`, `yolov8`: one output of candidates with box and scores; `ssd_postprocess`: four
        outputs of TFLite's post-processing operator; `color_shares`: one output of logits over
        the labels; `probabilities`: one output of probabilities over the labels (classifiers).
    strides: cell sizes in input pixels, for `yolox`.
    nms_iou: boxes of a class that overlap by more than this are one object, 0..1; 1 when the model
        itself suppresses duplicates.
    class_ids: the network's class of each label, counted from 0; empty: 0, 1, 2, … Classes of a
        third-party model that are not listed are ignored.
    channels_first: `yolov5`, `yolov8`: (1, channels, candidates), else (1, candidates, channels).
    box_unit: `yolov5`, `yolov8`: boxes in input `pixel`s or as `share` of the input's sides.
    roles: `ssd_postprocess`: the tensor that is `boxes`, `classes`, `scores`, `count`.
    temperature: logits are divided by this before the softmax (calibration on validation data).
    temperature_without_class: the same for crops whose object class is not given, which are mostly
        products; None: `temperature`.
    unknown_below: top share under which the color is reported as `unknown`, 0..1.
    """

    name: Literal["yolox", "yolov5", "yolov8", "ssd_postprocess", "color_shares", "probabilities"]
    strides: tuple[Annotated[int, Meta(ge=1)], ...] = ()
    nms_iou: Share = 0.65
    class_ids: tuple[Annotated[int, Meta(ge=0, le=9999)], ...] = ()
    channels_first: bool = False
    box_unit: Literal["pixel", "share"] = "share"
    roles: dict[Role, str] = {}
    temperature: Positive = 1.0
    temperature_without_class: Positive | None = None
    unknown_below: Share = 0.0


class Accuracy(Struct, frozen=True, kw_only=True):
    """One measured figure and the command that reproduces it."""

    dataset: str
    metric: str
    value: float
    command: str


class GoldenDetection(Struct, frozen=True, kw_only=True):
    """An expected object in the golden picture; box is x, y, width, height in its pixels."""

    label: str
    score: float
    box_px: tuple[float, float, float, float]


class Golden(Struct, frozen=True, kw_only=True):
    """A picture in the model folder and the model's expected results on it.

    tolerance: largest allowed difference of a score or share.
    min_iou: smallest allowed overlap with an expected box.
    """

    file: FileName
    tolerance: Share
    min_iou: Share = 0.9
    detections: tuple[GoldenDetection, ...] = ()
    shares: dict[str, float] = {}


class Certificate(Struct, frozen=True, kw_only=True):
    """Result of walking the flatbuffer: see `edge.certificate`."""

    integer_only: bool
    tensors: dict[str, int]
    operators: dict[str, int]


class Manifest(Struct, frozen=True, kw_only=True):
    """All information that the daemon needs to run a model, and a user to judge it.

    allow_float: load this model although it is not integer-only; every place that names the model
        says so. Set on request when a third-party model is imported, never in our own models.
    """

    format: Literal[1]
    name: Line
    version: Line
    task: Task
    file: FileName
    sha256: str
    parameters: int
    input: Input
    outputs: tuple[TensorSpec, ...]
    decoder: Decoder
    labels: Annotated[tuple[Label, ...], Meta(min_length=1)]
    certificate: Certificate
    accuracy: tuple[Accuracy, ...]
    training: dict[str, str]
    licence: str
    golden: Golden | None = None
    allow_float: bool = False

    def at_size(self, size: tuple[int, int]) -> Manifest:
        """Return this manifest with an input of (width, height) and outputs that grow with it.

        For a model whose input follows the frame: the size of its outputs is proportional to it.
        """
        width, height = size
        shape = (1, height, width, self.input.shape[3])
        outputs = tuple(
            msgspec.structs.replace(
                output,
                shape=(
                    1,
                    output.shape[1] * height // self.input.shape[1],
                    output.shape[2] * width // self.input.shape[2],
                    output.shape[3],
                ),
            )
            for output in self.outputs
        )
        image = msgspec.structs.replace(self.input, shape=shape)
        return msgspec.structs.replace(self, input=image, outputs=outputs)

    def box_unit_px(self) -> tuple[float, float, float, float]:
        """Return the factors that turn x, y, width, height of decoded boxes into input pixels."""
        if self.decoder.box_unit == "pixel":
            return 1.0, 1.0, 1.0, 1.0
        width, height = map(float, self.input.size)
        return width, height, width, height


def is_file_name(text: str) -> bool:
    """Return whether a text can name a file, a model or a version: one part of a path."""
    return _fits(text, FileName)


def is_label(text: str) -> bool:
    """Return whether a model may have a class of this name."""
    return _fits(text, Label)


def _fits(text: str, kind: Any) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


def read(folder: Path) -> Manifest:
    """Return the manifest of a model folder.

    Raises ModelError when it is missing, is not JSON, or has a wrong or unknown key.
    """
    path = folder / MANIFEST_NAME
    try:
        return msgspec.json.decode(lookup.content(path), type=Manifest)
    except FileNotFoundError:
        raise ModelError(
            f"model {folder}: no {MANIFEST_NAME}; name a folder that `edge models` lists"
        ) from None
    except OSError as error:
        raise ModelError(f"model {folder}: {MANIFEST_NAME}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
        for pattern, words in PATTERNS.items():
            reason = reason.replace(f"matching regex {pattern!r}", words)
        reason = brief(reason, 300)
        raise ModelError(f"model {folder}: {MANIFEST_NAME} is not valid: {reason}") from None


def write(folder: Path, manifest: Manifest) -> None:
    """Write a model folder's manifest whole or not at all: indented JSON, a newline at the end.

    Raises OSError.
    """
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    durable.replace(folder / MANIFEST_NAME, text + b"\n")
