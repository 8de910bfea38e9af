"""Makes a model folder from a third-party detector: `edge-tools import-model FILE --decoder …`.

The file is copied unchanged; manifest and card are written for it. Facts that the file does not
contain must be given as options. A file that is not integer-only is imported with `allow_float`:
the daemon runs it and logs a warning.
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
from edge.errors import EXIT_OK, EdgeError, InputError, ModelError
from edge.interpreter import Interpreter
from edge.manifest import Decoder, Manifest, is_label
from tools import coco_labels, foreign_file, package
from tools.arguments import (
    LABEL_RULE,
    model_folder,
    model_version,
    option,
    refuse_options,
    share_or_all,
)
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
class ImportOptions:
    """Facts given by the user; None: determined by the file or the decoder.

    class_ids: the network's class number of each kept label. licence, source: free text.
    golden: picture to store with the model's detections in it.
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
    parser.add_argument(
        "--keep",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="only these; default: all",
    )
    option(parser, "--version", model_version, "1.0.0", "of the model")
    parser.add_argument("--licence", default="not stated", help="of the model, for its card")
    parser.add_argument("--source", default="not stated", help="where it is from, for its card")
    parser.add_argument("--color-order", choices=("rgb", "bgr"), default="rgb", help="default: rgb")
    parser.add_argument(
        "--resize",
        choices=("letterbox", "stretch"),
        help="default: stretch for ssd_postprocess, else letterbox",
    )
    parser.add_argument(
        "--range",
        choices=tuple(RANGES),
        help="real pixel values; default: from a quantized input",
    )
    parser.add_argument(
        "--box-unit", choices=("pixel", "share"), help="default: from a quantized output"
    )
    parser.add_argument(
        "--nms-iou",
        type=share_or_all,
        help=f"overlap from which boxes of a label are one object's; default: {NMS_IOU}",
    )
    parser.add_argument(
        "--golden", type=Path, metavar="PICTURE", help="picture whose result `validate` repeats"
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder and print a summary; return the exit code."""
    written = import_file(args.file, args.output, _options(args))
    width, height = written.input.shape[2], written.input.shape[1]
    print(
        f"{args.output}: {written.decoder.name}, {width}x{height} {written.input.dtype}, "
        f"{written.input.color_order} {written.input.range}, {written.input.resize}, "
        f"{len(written.labels)} labels"
    )
    if written.allow_float:
        print("not integer-only: the daemon runs it, warns in its log, and says so on MQTT")
    return EXIT_OK


def _options(args: argparse.Namespace) -> ImportOptions:
    if args.decoder == "ssd_postprocess":  # suppresses within the model, in shares
        given = [name for name in ("nms_iou", "box_unit") if getattr(args, name) is not None]
        refuse_options(given, f"--decoder {args.decoder}")
    class_ids, classes = read_labels(args.labels or default_labels(args.decoder))
    return ImportOptions(
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
        nms_iou=NMS_IOU if args.nms_iou is None else args.nms_iou,
        golden=args.golden,
    )


def default_labels(decoder: str) -> str:
    """Return the built-in labels that published files with a decoder use."""
    return "coco90" if decoder == "ssd_postprocess" else "coco80"


def read_labels(labels: str) -> tuple[dict[str, int], int]:
    """Return class numbers by name, and the network's number of classes.

    labels: coco80, coco90 or a file. Raises InputError when the file cannot be read, names a
    class twice or none, or has a name that is no label.
    """
    if labels in coco_labels.BUILT_IN:
        known = coco_labels.BUILT_IN[labels]
        return known, max(known.values()) + 1
    try:
        lines = [line.strip() for line in _text(labels).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise InputError(f"--labels {labels}: {reason}; name coco80, coco90 or a file") from None
    found = {name: number for number, name in enumerate(lines) if name not in UNNAMED}
    if not found or len(found) != sum(name not in UNNAMED for name in lines):
        raise InputError(f"--labels {labels}: no name, or one name twice; write one class per line")
    odd = next((name for name in found if not is_label(name)), None)
    if odd is not None:
        raise InputError(f"--labels {labels}: line {found[odd] + 1}: {odd!r}: {LABEL_RULE}")
    return found, len(lines)


def _text(labels: str) -> str:
    return Path(labels).read_text(encoding="utf-8-sig").rstrip()


def _kept(class_ids: dict[str, int], keep: list[str] | None) -> dict[str, int]:
    unknown = [name for name in keep or () if name not in class_ids]
    if unknown:
        raise InputError(f"--keep {unknown[0]}: the model's labels are {', '.join(class_ids)}")
    return {name: class_ids[name] for name in keep} if keep else class_ids


def import_file(path: Path, folder: Path, options: ImportOptions) -> Manifest:
    """Write a model folder for a file, run it on a gray picture, and return the manifest.

    Raises ModelError when the file does not fit the decoder, EdgeError when the folder exists,
    InputError when the golden picture cannot be read.
    """
    if folder.exists():
        raise EdgeError(f"{folder}: exists; name a new folder")
    if options.golden:
        read_image(options.golden)  # refuses a bad picture before the work
    file = foreign_file.read(path)
    facts = _facts(file, options)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made in a temporary folder and moved once it runs, so that an existing folder is complete.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import-") as parent:
        made = Path(parent) / folder.name
        written = package.write_folder(made, path, facts)
        (made / package.CARD_FILE).write_text(_card(file, written, options))
        _try(made)
        if options.golden:
            written = package.add_golden_detections(
                made, options.golden, tolerance=GOLDEN_TOLERANCE
            )
        shutil.move(made, folder)
    return written


def _try(folder: Path) -> None:
    """Run the model on a gray picture; raise ModelError if it fails."""
    gray = np.full((96, 128, 3), 114, np.uint8)
    Detector(Interpreter.load(folder), min_score=0.5).detect(gray)


def _facts(file: ForeignFile, options: ImportOptions) -> package.Facts:
    is_ssd = options.decoder == "ssd_postprocess"
    image = {
        "color_order": options.color_order,
        "resize": options.resize or ("stretch" if is_ssd else "letterbox"),
        "range": options.range or foreign_file.pixel_range(file),
    }
    return package.Facts(
        name=options.name,
        version=options.version,
        task="detect",
        image=image,
        decoder=_ssd_decoder(file, options) if is_ssd else _yolo_decoder(file, options),
        labels=tuple(options.class_ids),
        parameters=file.parameters,
        training={"source": options.source, "file": file.path.name},
        licence=options.licence,
        is_foreign=True,
    )


def _ssd_decoder(file: ForeignFile, options: ImportOptions) -> Decoder:
    if not file.roles:
        raise ModelError(
            f"{file.path}: holds no {foreign_file.POSTPROCESS} operator; export it with the "
            "post-processing, or choose another --decoder"
        )
    return Decoder(
        name="ssd_postprocess",
        nms_iou=1.0,  # suppressed within the model
        class_ids=tuple(options.class_ids.values()),
        roles=file.roles,  # type: ignore[arg-type]  # keys are the roles
    )


def _yolo_decoder(file: ForeignFile, options: ImportOptions) -> Decoder:
    return Decoder(
        name=options.decoder,  # type: ignore[arg-type]  # one of DECODERS
        nms_iou=options.nms_iou,
        class_ids=_class_ids(options),
        channels_first=foreign_file.is_channels_first(file, options.decoder, options.classes),
        box_unit=options.box_unit or foreign_file.box_unit(file),
    )


def _class_ids(options: ImportOptions) -> tuple[int, ...]:
    """Return the network's class numbers of the labels; empty if they are all of 0, 1, 2, …."""
    ids = tuple(options.class_ids.values())
    return () if ids == tuple(range(options.classes)) else ids


def _card(file: ForeignFile, written: Manifest, options: ImportOptions) -> str:
    if written.allow_float:
        verdict = "**Not integer-only**: imported knowingly (`allow_float` in the manifest)."
    else:
        verdict = "Integer-only: no float tensor, no custom operator."
    image = written.input
    tensors = ", ".join(f"{count} {dtype}" for dtype, count in written.certificate.tensors.items())
    return f"""# {written.name}

Imported from `{file.path.name}`, a third-party model; the file is unchanged. {verdict}

| | |
|---|---|
| source | {options.source} |
| licence | {options.licence} |
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
