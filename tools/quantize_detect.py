"""`edge-tools quantize detect`: makes the model folder of an int8 detector.

Quantizes float weights or, with `--checkpoint`, those trained by `edge-tools train detect-int8`;
with `--model`, writes an int8 model of this command anew, faster with pictures.
The stem's channels are sorted by their range on the calibration pictures and split into groups,
each with its own scale; all other ranges are percentiles. Figures:
tools/experiments-detector.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edge import manifest
from edge.capture import read_image
from edge.detector import Letterbox
from edge.errors import InputError, ModelError, UsageError
from edge.manifest import Decoder, Input, Manifest
from edge.values import Image
from tools import dataset, detector_card, int8_detector, package, tracking
from tools.architectures import yolox
from tools.arguments import (
    count,
    model_folder,
    model_version,
    option,
    percentile,
    refuse_options,
    zero_or_below,
)
from tools.input_size import InputSize
from tools.package import Facts
from tools.quantize import Calibration, Graph, Quantization, calibrate, write
from tools.quantize.ranges import PIXELS, batches
from tools.train import detect_state
from tools.train.detect_state import DetectTraining

IMAGE = {
    "color_order": "bgr",
    "resize": "letterbox",
    "pad_value": 114,
    "range": "0..255",
    "follows_frame": True,
}
DECODER: Literal["yolox"] = "yolox"
NMS_IOU = 0.65  # the YOLOX authors' value
VERSION = "1.0.0"
PTQ_GROUPS = 3  # channel groups of the stem for post-training quantization
GOLDEN_TOLERANCE = 0.12  # of scores, because the runtimes' kernels round differently

# What measures the ranges of float weights, with its defaults; other sources have ranges already,
# a --model with pictures all but a few.
MEASURING: dict[str, Any] = {
    "annotations": None,
    "images": None,
    "groups": None,
    "percentile": Calibration.percentile,
    "silu_floor": Calibration.silu_floor,
    "count": DetectTraining.calibration,
}
OF_PICTURES = ("annotations", "images", "percentile", "count")  # those that --model may take

EXAMPLES = """\
examples:
  edge-tools quantize detect --weights ../shared/weights/yolox_nano.onnx \\
    --annotations ../shared/data/detection/train.json --images ../shared/data/detection \\
    --golden street.jpg --output models/yolox-nano-352
  edge-tools quantize detect --model models/yolox-nano-352 --size 288x224 --output models/small
  edge-tools quantize detect --model models/made-by-an-older-version --output models/faster \\
    --annotations ../shared/data/detection/train.json --images ../shared/data/detection
"""


def letterboxed(bgr: Image, size: InputSize) -> Image:
    """Return a picture letterboxed as by the daemon, uint8 (height, width, 3)."""
    spec = Input(
        name="input",
        shape=(1, size.height, size.width, 3),
        dtype="uint8",
        scale=1.0,
        zero_point=0,
        color_order="bgr",
        resize="letterbox",
    )
    canvas = np.empty((size.height, size.width, 3), np.uint8)
    Letterbox(spec).write(bgr, canvas)
    return canvas


def stem_groups(weights: Path, images: Sequence[Image], count: int) -> list[list[int]]:
    """Return the stem's channels in `count` groups of similar range, smallest range first.

    images: uint8 (height, width, 3), letterboxed. count: 1..16.
    """
    net = yolox.load(weights)
    convolution = next(item for item in net.backbone.stem.modules() if isinstance(item, nn.Conv2d))
    ranges = torch.zeros(1)
    with torch.no_grad():
        for batch in batches(images, PIXELS, 8):
            made: Tensor = convolution(net.backbone.stem.rearrange(batch))
            ranges = torch.maximum(ranges, made.abs().amax((0, 2, 3)))
    order = torch.argsort(ranges).tolist()
    return [part.tolist() for part in np.array_split(np.array(order), count)]


def write_model(
    folder: Path, graph: Graph, ranges: dict[str, Quantization], facts: Facts
) -> Manifest:
    """Write a graph of YOLOX-Nano as a model folder; return the manifest."""
    path = folder / package.MODEL_FILE
    write(graph, ranges, path)
    return package.write_folder(folder, path, facts)


def facts_of(
    graph: Graph,
    name: str,
    training: dict[str, str],
    labels: tuple[str, ...],
    version: str = VERSION,
) -> Facts:
    """Return the manifest's facts about a YOLOX-Nano graph. training: how it was made."""
    return Facts(
        name=name,
        version=version,
        task="detect",
        image=IMAGE,
        decoder=Decoder(name=DECODER, strides=yolox.STRIDES, nms_iou=NMS_IOU),
        labels=labels,
        parameters=sum(item.numel() for item in graph.parameters()),
        training=training,
        licence="Apache-2.0",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `edge-tools quantize detect` takes."""
    detect_state.add_weights(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--checkpoint", type=Path, help="checkpoint of `edge-tools train detect-int8`"
    )
    source.add_argument(
        "--model",
        type=Path,
        help="an int8 model folder of this command, to write anew: for another --size or, of an "
        "older version, with --annotations and --images, with faster operators",
    )
    parser.add_argument("--annotations", type=Path, help="COCO JSON of the training set")
    parser.add_argument("--images", type=Path, help="folder of its pictures")
    parser.add_argument(
        "--output",
        type=model_folder,
        required=True,
        help="model folder to write; the model has its name",
    )
    option(parser, "--version", model_version, VERSION, "of the model")
    parser.add_argument(
        "--size",
        type=InputSize.parse,
        help=f"input size: 352x288, 416; default: {DetectTraining.size}, with --model the model's",
    )
    detect_state.add_stem(parser, groups=PTQ_GROUPS)
    parser.add_argument(
        "--percentile", type=percentile, help="of the activation ranges; default: %(default)s"
    )
    parser.add_argument(
        "--silu-floor",
        type=zero_or_below,
        help="lowest value of ranges that only a SiLU reads; =-inf: no limit; default: %(default)s",
    )
    parser.add_argument("--count", type=count, help="calibration pictures; default: %(default)s")
    parser.set_defaults(**MEASURING)
    option(parser, "--threads", count, 1, "CPU threads of PyTorch")
    parser.add_argument(
        "--golden",
        type=Path,
        help="picture to store with its detections; default: that of the --model or of the model "
        "before",
    )
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Quantize, write the model folder, print a summary; return the exit code."""
    _refuse_unused(args)
    package.refuse_other_kind(args.output, DECODER)
    torch.set_num_threads(args.threads)
    former = _golden_of(args.output)
    golden = args.golden or (args.model and _golden_of(args.model)) or former
    if golden:
        read_image(golden)  # used last, but an unreadable file must be refused first
    graph, ranges, training, labels = _make(args)
    with tracking.start(
        "quantize-detect",
        params={"size": str(args.size), "checkpoint": str(args.checkpoint)},
        uri=args.tracking_uri,
        data=_sources(args),
    ) as record:
        name = args.output.resolve().name
        facts = facts_of(graph, name, training, labels, args.version)
        earlier = _earlier_card(args.output)
        made = write_model(args.output, graph, ranges, facts)
        package.write_card(args.output, _card(made), earlier)
        (args.output / detector_card.SEEN_FILE).unlink(missing_ok=True)  # of the model before
        if golden:
            package.add_golden_detections(args.output, golden, tolerance=GOLDEN_TOLERANCE)
        if former and former != _golden_of(args.output):
            former.unlink()
        record.params(training)
        record.artifact(args.output)
    print(f"{args.output}: {name} {args.version}, sha256 {made.sha256[:12]}…")
    print(f"integer-only: {made.certificate.integer_only}, {made.certificate.operators}")
    return 0


def _refuse_unused(args: argparse.Namespace) -> None:
    """Raise UsageError for options of another source than the one given."""
    if not (args.model or args.checkpoint):
        return
    unused = [name for name, default in MEASURING.items() if getattr(args, name) != default]
    if args.model and args.weights != yolox.WEIGHTS:
        unused.append("weights")
    if args.model and bool(args.annotations) != bool(args.images):
        missing = "--images" if args.annotations else "--annotations"
        raise UsageError(f"{missing} is missing: --model takes pictures with both or not at all")
    if args.model and args.annotations:
        unused = [name for name in unused if name not in OF_PICTURES]
    elif args.stem_rank != DetectTraining.rank:
        unused.append("stem_rank")
    refuse_options(unused, "--model" if args.model else "--checkpoint")


def _sources(args: argparse.Namespace) -> list[Path]:
    """Return the files that the model is made from."""
    if args.model:
        return [args.model / package.MODEL_FILE]
    return [file for file in (args.weights, args.checkpoint, args.annotations) if file]


class Made(NamedTuple):
    """A graph to write, its ranges, how it was made (for the manifest) and its labels."""

    graph: Graph
    ranges: dict[str, Quantization]
    training: dict[str, str]
    labels: tuple[str, ...]


def _make(args: argparse.Namespace) -> Made:
    if args.model:
        return _from_model(args)
    size = args.size or DetectTraining.size
    return _from_checkpoint(args, size) if args.checkpoint else _from_float(args, size)


def _from_float(args: argparse.Namespace, size: InputSize) -> Made:
    """Return a float network's graph with ranges measured on pictures."""
    if args.annotations is None or args.images is None:
        raise InputError("float weights need --annotations and --images to measure ranges on")
    name, images = _pictures(args, size)
    parts = args.groups or (1 if yolox.is_rectified(args.weights) else PTQ_GROUPS)
    groups = stem_groups(args.weights, images, parts)
    graph = detect_state.build(args.weights, groups, args.stem_rank, size, images)
    options = Calibration(percentile=args.percentile, silu_floor=args.silu_floor)
    ranges = calibrate(graph, images, options=options)
    stem = detect_state.stem_text(len(groups), args.stem_rank)
    training = {
        "weights": yolox.origin(args.weights),
        "method": f"post-training quantization, {stem}, ranges of percentile {args.percentile:g}",
        "data": f"{name}, {len(images)} pictures for the ranges, no labels",
    }
    return Made(graph, ranges, training, yolox.stored_labels(args.weights))


def _pictures(args: argparse.Namespace, size: InputSize) -> tuple[str, list[Image]]:
    """Return the name of the training set, and the pictures to measure ranges on, letterboxed."""
    data = dataset.read(args.annotations, args.images)
    chosen = dataset.stratified(data.pictures, args.count)
    return data.name, [letterboxed(dataset.load(picture), size) for picture in chosen]


def _from_checkpoint(args: argparse.Namespace, size: InputSize) -> Made:
    """Return a trained graph with the ranges it was trained with."""
    made = detect_state.trained(args.checkpoint, args.weights, size)
    training = {"weights": yolox.origin(args.weights)}
    training |= detect_state.described(made.config, made.step)
    return Made(made.graph, made.ranges, training, yolox.stored_labels(args.weights))


def _from_model(args: argparse.Namespace) -> Made:
    """Return the graph and ranges of an int8 model, with faster operators if there are pictures."""
    read = int8_detector.read(args.model, args.size)
    training = dict(read.manifest.training)
    if args.images:
        before, (height, width) = read, read.graph.nodes[0].shape[1:]
        _, images = _pictures(args, InputSize(width, height))
        options = Calibration(percentile=args.percentile)
        read = int8_detector.faster(before, args.stem_rank, images, options)
        if read.rank != before.rank:
            training["method"] += f"; stem made separable later, with {read.rank} channels inside"
    return Made(read.graph, read.ranges, training, read.manifest.labels)


def _golden_of(folder: Path) -> Path | None:
    """Return the golden picture of a model folder, None if there is none."""
    try:
        golden = manifest.read(folder).golden
    except ModelError:
        return None
    path = folder / golden.file if golden else None
    return path if path and path.is_file() else None


def _earlier_card(folder: Path) -> str | None:
    """Return the card generated for the model that a folder holds, None if it holds none."""
    try:
        return _card(manifest.read(folder))
    except (ModelError, KeyError):  # KeyError: made by another program
        return None


def _card(made: Manifest) -> str:
    width, height = made.input.size
    return f"""# {made.name}

Finds {", ".join(made.labels)} in a picture of {width}x{height} pixels,
or of as many in the frame's own shape. Integer-only int8: every tensor is int8 or int32, no float
operator (`manifest.json` holds the certificate, the daemon checks it at each start).

| | |
|---|---|
| network | YOLOX-Nano (Ge et al. 2021), {made.parameters:,} parameters |
| weights | {made.training["weights"]} |
| quantization | {made.training["method"]} |
| data | {made.training["data"]} |
| licence | {made.licence} |
| input | {made.input.dtype} {made.input.shape}, {made.input.color_order}, {made.input.range}, \
{made.input.resize} |
| decoder | `{made.decoder.name}` |
| labels | {", ".join(made.labels)} |

## Accuracy

{package.TABLE_BEGIN}
Not measured yet: `edge-tools evaluate detect FOLDER --record …` fills this part.
{package.TABLE_END}
"""
