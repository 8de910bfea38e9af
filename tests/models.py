"""Tiny real model folders; the .tflite files come from tests/data/make_models.py."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from edge import certificate, interpreter, manifest
from edge.color import TERMS
from edge.manifest import Decoder, Input, Manifest, TensorSpec

DATA = Path(__file__).parent / "data"
DETECT, COLOR, CLASS_COLOR = "tiny-detect", "tiny-color", "tiny-class-color"

_UNIT_PIXELS: dict[str, Any] = {"dtype": "int8", "scale": 1 / 128, "zero_point": 0}
_PICTURE = Input(
    name="image",
    shape=(1, 8, 8, 3),
    **_UNIT_PIXELS,
    color_order="rgb",
    resize="stretch",
    range="-1..1",
)


def detect_folder(
    parent: Path, name: str = DETECT, *, file: str = "detect.tflite", **changes: Any
) -> Path:
    """Write a detector of red (`person`) and blue (`car`) cells of a 4x4 grid."""
    image = Input(
        name="image",
        shape=(1, 64, 64, 3),
        dtype="int8",
        scale=1.0,
        zero_point=-128,
        color_order="bgr",
        resize="letterbox",
    )
    outputs = [("box_16", 4, 0.05), ("objectness_16", 1, 0.1), ("class_16", 2, 0.1)]
    return write_folder(
        parent / name,
        file,
        **{
            "task": "detect",
            "input": image,
            "outputs": tuple(
                TensorSpec(
                    name=output, shape=(1, 4, 4, channels), dtype="int8", scale=scale, zero_point=0
                )
                for output, channels, scale in outputs
            ),
            "decoder": Decoder(name="yolox", strides=(16,)),
            "labels": ("person", "car"),
            **changes,
        },
    )


def class_color_folder(parent: Path, name: str = CLASS_COLOR) -> Path:
    """Write a color model that answers red for red pixels, but brown for a dog."""
    path = DATA / "class_color.tflite"
    (image,), outputs = interpreter.read_tensors(path.read_bytes(), path)
    planes = Input(
        **msgspec.structs.asdict(image),
        color_order="rgb",
        resize="stretch",
        range="-1..1",
        classes=("person", "car", "dog"),
    )
    return write_folder(parent / name, path.name, input=planes, outputs=outputs)


FOREIGN = ("yolov5", "yolov8", "yolov8_float", "ssd")
SSD_ROLES = {"boxes": "", "classes": ":1", "scores": ":2", "count": ":3"}


def foreign_folder(parent: Path, kind: str, **changes: Any) -> Path:
    """Write one of `FOREIGN`: what `detect_folder` finds, in a third-party output layout."""
    path = DATA / f"{kind}.tflite"
    (image,), outputs = interpreter.read_tensors(path.read_bytes(), path)
    roles = {role: f"detections{end}" for role, end in SSD_ROLES.items()}
    decoders = {
        "yolov5": Decoder(name="yolov5"),
        "yolov8": Decoder(name="yolov8", channels_first=True),
        "yolov8_float": Decoder(name="yolov8", channels_first=True),
        "ssd": Decoder(name="ssd_postprocess", roles=roles, nms_iou=1.0),
    }
    facts = msgspec.structs.asdict(image)
    return write_folder(
        parent / f"tiny-{kind}",
        path.name,
        **{
            "task": "detect",
            "input": Input(**facts, color_order="rgb", resize="letterbox"),
            "outputs": outputs,
            "decoder": decoders[kind],
            "labels": ("person", "car"),
            "allow_float": any(spec.is_float for spec in outputs),
            **changes,
        },
    )


def color_folder(parent: Path, name: str = COLOR, **changes: Any) -> Path:
    """Write a color model that takes the nearest prototype."""
    terms = TensorSpec(name="terms", shape=(1, 1, 1, 11), dtype="int8", scale=0.25, zero_point=60)
    return write_folder(
        parent / name, "color.tflite", **{"input": _PICTURE, "outputs": (terms,), **changes}
    )


def refused_folder(parent: Path, file: str) -> Path:
    """Write a folder around `float.tflite`, `float_inside.tflite` or `custom.tflite`."""
    terms = TensorSpec(name="terms", shape=(1, 8, 8, 3), **_UNIT_PIXELS)
    return write_folder(parent / Path(file).stem, file, input=_PICTURE, outputs=(terms,))


def write_folder(folder: Path, data_file: str, **facts: Any) -> Path:
    """Write a model folder; hash and certificate are those of the file unless given."""
    folder.mkdir(parents=True)
    content = (DATA / data_file).read_bytes()
    (folder / "model.tflite").write_bytes(content)
    known: dict[str, Any] = {
        "format": 1,
        "name": folder.name,
        "version": "0.0.1",
        "task": "color",
        "file": "model.tflite",
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": 44,
        "decoder": Decoder(name="color_shares"),
        "labels": TERMS,
        "certificate": certificate.summarize(certificate.read_graph(content)),
        "accuracy": (),
        "training": {},
        "licence": "Apache-2.0",
    }
    manifest.write(folder, Manifest(**(known | facts)))
    return folder


def change_manifest(folder: Path, **changes: Any) -> Path:
    """Replace top-level facts of a folder's manifest."""
    manifest.write(folder, msgspec.structs.replace(manifest.read(folder), **changes))
    return folder
