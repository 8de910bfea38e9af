"""Makes a model folder of somebody else's detector: `edge-tools import-model FILE --decoder …`.

The file stays as it is; manifest and card are written around it. What the file says is read from
it, what it cannot say is asked for. A file that is not integer-only is imported with `allow_float`:
the daemon runs it and says so.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.capture import read_image
from edge.detector import Detector
from edge.detector.letterbox import RANGES
from edge.errors import EXIT_OK, EdgeError, InputError, ModelError, brief
from edge.interpreter import Interpreter
from edge.manifest import Decoder, Manifest
from tools import coco_labels, foreign_file, package
from tools.arguments import model_folder, model_version
from tools.foreign_file import BoxUnit, ForeignFile, Range

EXAMPLES = """examples:
  edge-tools import-model ssd_mobilenet_v1.tflite --decoder ssd_postprocess --output models/ssd
  edge-tools import-model yolov5n-int8.tflite --decoder yolov5 --output models/yolov5n \\
    --keep person car dog --licence AGPL-3.0 --golden street.jpg
  edge-tools import-model own-yolov8.tflite --decoder yolov8 --output models/own --labels own.txt

then: edge infer photo.jpg --model models/ssd; in the daemon's config: detector: {model: ...}"""

DECODERS = ("ssd_postprocess", "yolov5", "yolov8")
UNNAMED = ("", "???")
NMS_IOU = 0.6
GOLDEN_TOLERANCE = 0.15


@dataclass(frozen=True)
class Wishes:
    """What whoever imports the file says of it; None where the file or the decoder decides.

    class_ids: the network's class of each label that is kept. licence, source: free text.
    golden: picture to store with what the model finds in it.
    """

    decoder: str
    name: str
    class_ids: dict[str, int]
    classes: int
    version: str = "1.0.0"
    licence: str = "not stated"
    source: str = "not stated"
    color_order: str = "rgb"
    resize: str | None = None
    range: Range | None = None
    box_unit: BoxUnit | None = None
    nms_iou: float = NMS_IOU
    golden: Path | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help=".tflite, one picture as input")
    parser.add_argument("--decoder", choices=DECODERS, required=True, help="how outputs are read")
    parser.add_argument(
        "--output", type=model_folder, required=True, metavar="DIR", help="new folder"
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="coco80, coco90, or a file whose line n names class n (??? = no name); default: "
        "coco90 for ssd_postprocess, else coco80",
    )
    parser.add_argument("--keep", nargs="+", metavar="LABEL", help="only these; default: all")
    parser.add_argument("--version", type=model_version, default="1.0.0", help="default 1.0.0")
    parser.add_argument("--licence", default="not stated", help="of the model, for its card")
    parser.add_argument("--source", default="not stated", help="where it is from, for its card")
    parser.add_argument("--color-order", choices=("rgb", "bgr"), default="rgb")
    parser.add_argument(
        "--resize",
        choices=("letterbox", "stretch"),
        help="default: stretch for ssd_postprocess, else letterbox",
    )
    parser.add_argument(
        "--range",
        choices=tuple(RANGES),
        help="real pixel values; default: what a quantized input says",
    )
    parser.add_argument(
        "--box-unit", choices=("pixel", "share"), help="default: what a quantized output says"
    )
    parser.add_argument("--nms-iou", type=float, default=NMS_IOU, help=f"default {NMS_IOU}")
    parser.add_argument(
        "--golden", type=Path, metavar="PICTURE", help="picture whose result `validate` repeats"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder and say what it holds; return the exit code."""
    written = import_file(args.file, args.output, _wishes(args))
    width, height = written.input.shape[2], written.input.shape[1]
    print(
        f"{args.output}: {written.decoder.name}, {width}x{height} {written.input.dtype}, "
        f"{written.input.color_order} {written.input.range}, {written.input.resize}, "
        f"{len(written.labels)} labels"
    )
    if written.allow_float:
        print("not integer-only: the daemon runs it, warns in its log, and says so on MQTT")
    return EXIT_OK


def _wishes(args: argparse.Namespace) -> Wishes:
    if not 0 <= args.nms_iou <= 1:
        raise EdgeError(f"--nms-iou {args.nms_iou}: give a share, 0 to 1")
    class_ids, classes = read_labels(args.labels or default_labels(args.decoder))
    return Wishes(
        decoder=args.decoder,
        name=args.output.resolve().name,
        class_ids=_kept(class_ids, args.keep),
        classes=classes,
        version=args.version,
        licence=args.licence,
        source=args.source,
        color_order=args.color_order,
        resize=args.resize,
        range=args.range,
        box_unit=args.box_unit,
        nms_iou=args.nms_iou,
        golden=args.golden,
    )


def default_labels(decoder: str) -> str:
    """Return the built-in labels that published files of a decoder have."""
    return "coco90" if decoder == "ssd_postprocess" else "coco80"


def read_labels(labels: str) -> tuple[dict[str, int], int]:
    """Return class numbers by name and how many classes the network has.

    labels: coco80, coco90 or a file. Raises InputError when the file cannot be read, names a
    class twice, or names none.
    """
    if labels in coco_labels.BUILT_IN:
        known = coco_labels.BUILT_IN[labels]
        return known, max(known.values()) + 1
    try:
        lines = [line.strip() for line in Path(labels).read_text().rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise InputError(f"--labels {labels}: {reason}; name coco80, coco90 or a file") from None
    found = {name: number for number, name in enumerate(lines) if name not in UNNAMED}
    if not found or len(found) != sum(name not in UNNAMED for name in lines):
        raise InputError(f"--labels {labels}: no name, or one name twice; one class a line")
    return found, len(lines)


def _kept(class_ids: dict[str, int], keep: list[str] | None) -> dict[str, int]:
    unknown = [name for name in keep or () if name not in class_ids]
    if unknown:
        raise InputError(f"--keep {unknown[0]}: the model's labels are {', '.join(class_ids)}")
    return {name: class_ids[name] for name in keep} if keep else class_ids


def import_file(path: Path, folder: Path, wishes: Wishes) -> Manifest:
    """Write a model folder around a file, try it on a gray picture, and return the manifest.

    Raises ModelError when the file does not fit the decoder, EdgeError when the folder exists,
    InputError when the golden picture cannot be read.
    """
    if folder.exists():
        raise EdgeError(f"{folder}: exists; name a new folder")
    if wishes.golden:
        read_image(wishes.golden)  # before the work
    file = foreign_file.read(path)
    facts = _facts(file, wishes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made aside and moved when it runs: a folder that is there is complete.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import-") as parent:
        made = Path(parent) / folder.name
        written = package.write_folder(made, path, facts)
        (made / package.CARD_FILE).write_text(_card(file, written, wishes))
        _try(made, path)
        if wishes.golden:
            written = package.add_golden_detections(made, wishes.golden, tolerance=GOLDEN_TOLERANCE)
        shutil.move(made, folder)
    return written


def _try(folder: Path, path: Path) -> None:
    """Run the model on a gray picture; raise ModelError naming the file when it does not."""
    gray = np.full((96, 128, 3), 114, np.uint8)
    try:
        Detector(Interpreter.load(folder), min_score=0.5).detect(gray)
    except RuntimeError as error:
        reason = brief(error)
        raise ModelError(f"{path}: does not run: {reason}; export it again") from None


def _facts(file: ForeignFile, wishes: Wishes) -> package.Facts:
    is_ssd = wishes.decoder == "ssd_postprocess"
    image = {
        "color_order": wishes.color_order,
        "resize": wishes.resize or ("stretch" if is_ssd else "letterbox"),
        "range": wishes.range or foreign_file.pixel_range(file),
    }
    return package.Facts(
        name=wishes.name,
        version=wishes.version,
        task="detect",
        image=image,
        decoder=_ssd_decoder(file, wishes) if is_ssd else _yolo_decoder(file, wishes),
        labels=tuple(wishes.class_ids),
        parameters=file.parameters,
        training={"source": wishes.source, "file": file.path.name},
        licence=wishes.licence,
        is_foreign=True,
    )


def _ssd_decoder(file: ForeignFile, wishes: Wishes) -> Decoder:
    if not file.roles:
        raise ModelError(
            f"{file.path}: holds no {foreign_file.POSTPROCESS} operator; export it with the "
            "post-processing, or choose another --decoder"
        )
    return Decoder(
        name="ssd_postprocess",
        nms_iou=1.0,  # suppressed within the model
        class_ids=tuple(wishes.class_ids.values()),
        roles=file.roles,  # type: ignore[arg-type]  # keys are the roles
    )


def _yolo_decoder(file: ForeignFile, wishes: Wishes) -> Decoder:
    return Decoder(
        name=wishes.decoder,  # type: ignore[arg-type]  # one of DECODERS
        nms_iou=wishes.nms_iou,
        class_ids=_class_ids(wishes),
        channels_first=foreign_file.is_channels_first(file, wishes.decoder, wishes.classes),
        box_unit=wishes.box_unit or foreign_file.box_unit(file),
    )


def _class_ids(wishes: Wishes) -> tuple[int, ...]:
    """Return the network's classes of the labels, empty when they are 0, 1, 2, … and all."""
    ids = tuple(wishes.class_ids.values())
    return () if ids == tuple(range(wishes.classes)) else ids


def _card(file: ForeignFile, written: Manifest, wishes: Wishes) -> str:
    if written.allow_float:
        verdict = "**Not integer-only**: imported knowingly (`allow_float` in the manifest)."
    else:
        verdict = "Integer-only: no float tensor, no custom operator."
    image = written.input
    tensors = ", ".join(f"{count} {dtype}" for dtype, count in written.certificate.tensors.items())
    return f"""# {written.name}

Imported from `{file.path.name}`, made by others; the file is unchanged. {verdict}

| | |
|---|---|
| source | {wishes.source} |
| licence | {wishes.licence} |
| parameters | {written.parameters:,} |
| input | {image.dtype} {image.shape}, {image.color_order}, {image.range}, {image.resize} |
| decoder | `{written.decoder.name}` |
| tensors | {tensors} |
| sha256 | `{written.sha256}` |
| labels | {", ".join(written.labels)} |

## Accuracy

{package.TABLE_BEGIN}
Not measured yet: `edge-tools evaluate detect {written.name} --record …` fills this part.
{package.TABLE_END}
"""
