"""Make an int8 model folder: `edge-tools quantize color CHECKPOINT --output FOLDER`.

Steps: measure ranges on training crops, write the .tflite, fit the temperature on validation crops
with the integer model itself, then add the golden picture, figures, manifest and card. Top-1 of the
float network is printed beside that of the file, to show what quantization costs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from edge import certificate, manifest, picture_file
from edge.color import TERMS, ColorModel
from edge.interpreter import Interpreter
from edge.manifest import Decoder, Golden, Manifest
from edge.values import Image
from tools import package, quantize, tracking
from tools.architectures.color import ColorNet, WithCells
from tools.arguments import count, model_folder, model_version, option, percentile
from tools.color import card
from tools.color.data import arrays, dataset
from tools.color.evaluate import ask
from tools.color.figures import Answers, figures, only, select
from tools.quantize import Calibration, Quantization
from tools.train import color_int8_state, commands
from tools.train.color_answers import top1
from tools.train.color_state import ColorTraining, load_network, mean_of

DECODER: Literal["color_shares"] = "color_shares"
GOLDEN = "golden.png"
GOLDEN_TOLERANCE = 0.05  # kernels differ by a few output levels between runtimes and CPUs
PIXELS = Quantization(1 / 128, 0)  # real values (level - 128) / 128
# Shares are calibrated, so a name whose share is lower is wrong more often than not.
UNKNOWN_BELOW = 0.4
TEMPERATURES = np.geomspace(0.3, 3.0, 231)


EXAMPLES = """\
example:
  edge-tools quantize color runs/color/checkpoint.pt --data ../shared/data --output models/color-64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of `edge-tools train color`")
    parser.add_argument(
        "--output",
        type=model_folder,
        required=True,
        help="model folder to write; the model has its name",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with color/, scene_color/")
    option(parser, "--version", model_version, "0.1.0", "of the model")
    option(parser, "--images", count, 512, "training crops for the ranges")
    parser.add_argument(
        "--failures",
        type=Path,
        metavar="FILE",
        help="failures.json of `color failures`, for the card",
    )
    option(parser, "--percentile", percentile, 99.99, "of activation ranges")
    parser.add_argument(
        "--int8",
        type=Path,
        metavar="CHECKPOINT",
        help="of `edge-tools train color-int8`, with ranges of its own",
    )
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the model folder and print its figures beside the float network's."""
    package.refuse_other_kind(args.output, DECODER)
    torch.set_num_threads(1)
    config, network = load_network(args.checkpoint)
    items = dataset.validation_items(args.data)
    causes = card.read_causes(args.failures) if args.failures else None
    with tracking.start(
        "quantize-color",
        params={"images": args.images, "percentile": args.percentile, "int8": str(args.int8)},
        uri=args.tracking_uri,
        data=[args.checkpoint, *sorted(args.data.glob("*color/*.json"))],
    ) as record:
        path = args.output / package.MODEL_FILE
        made = _write(args, config, network, path)
        facts = describe(path, config, args.output.resolve().name, args.version)
        facts.training.update(card.trained_on(args.data) | made)
        if epochs := mean_of(args.checkpoint):
            after = ", ".join(map(str, epochs))
            facts.training["weights"] = f"mean of {len(epochs)} networks, after epochs {after}"
        package.write_folder(args.output, path, facts)
        held = dataset.held_out(args.data, config.hold_out, config.hold_from)
        fit(args.output, items + [item for item in held if dataset.is_agreed(item)])
        answers = ask(ColorModel(Interpreter.load(args.output)), items)
        final = finish(args.output, answers, args.data)
        text = card.text(final, answers, args.data, causes)
        package.replace_card(args.output, text)
        compare(network, config, answers, items)
        record.artifact(args.output)
    decoder = final.decoder
    print(
        f"{args.output}: {final.certificate.tensors}, temperature {decoder.temperature:.3f}, "
        f"without a class {decoder.temperature_without_class or decoder.temperature:.3f}"
    )
    return 0


def _write(
    args: argparse.Namespace, config: ColorTraining, network: ColorNet, path: Path
) -> dict[str, str]:
    """Write the .tflite file; return the manifest's training entries about it.

    The commands are among them only when those of all steps are known: older checkpoints have none.
    """
    before = [config.commands]
    if args.int8:
        trained, state = color_int8_state.trained(
            args.int8, args.checkpoint, network, config.architecture
        )
        quantize.write(state.average, state.ranges, path)
        how = color_int8_state.described(trained)
        before.append(trained.commands)
    else:
        images = calibration_images(args.data, args.images, config.architecture.input_px)
        export(network, images, path, Calibration(percentile=args.percentile))
        how = f"after training; ranges of percentile {args.percentile:g}, {len(images)} crops"
    if not all(before):
        return {"int8": how}
    made_by = commands.in_order(*before, (args.command,))
    return {"int8": how, card.COMMANDS: "\n".join(made_by)}


def calibration_images(data: Path, count: int, side: int) -> NDArray[np.uint8]:
    """Return training crops as the runtime gets them: uint8 (n, side, side, 3 + classes), RGB.

    Every second crop has no class. A class that no other crop has is given to a copy of the first:
    the range of the class's values must hold those of every class.
    """
    items = dataset.training_items(data)
    count = min(count, len(items))
    rows = sorted(np.random.default_rng(3).choice(len(items), count, replace=False))
    chosen = [items[row] for row in rows]
    chosen[::2] = [replace(item, object_class=None) for item in chosen[::2]]
    known = {item.object_class for item in chosen}
    missing = [name for name in arrays.OBJECT_CLASSES if name not in known]
    chosen += [replace(chosen[0], object_class=name) for name in missing]
    return with_planes(arrays.pack(chosen, side, 0.0))


def with_planes(packed: arrays.Packed) -> NDArray[np.uint8]:
    """Return the crops with a plane for each class: uint8, 255 for the object's class, else 128."""
    spread = packed.rgb.shape[:3]
    planes = np.full((*spread, len(arrays.OBJECT_CLASSES)), 128, np.uint8)
    known = np.flatnonzero(packed.classes >= 0)
    planes[known, :, :, packed.classes[known]] = 255
    return np.concatenate([packed.rgb, planes], axis=3)


def export(network: ColorNet, images: NDArray[np.uint8], path: Path, options: Calibration) -> None:
    """Quantize the network and write the file.

    images: uint8 (n, side, side, 3 + classes), as `calibration_images` returns them.
    """
    shape = (images.shape[3], *images.shape[1:3])
    quantize.export(WithCells(network), list(images), path, shape, pixels=PIXELS, options=options)


def describe(path: Path, config: ColorTraining, name: str, version: str) -> package.Facts:
    """Return the facts for the manifest of an exported file; `fit` adds the temperature."""
    return package.Facts(
        name=name,
        version=version,
        task="color",
        image={
            "color_order": "rgb",
            "resize": "stretch",
            "range": "-1..1",
            "classes": arrays.OBJECT_CLASSES,
        },
        decoder=Decoder(name=DECODER),
        labels=TERMS,
        parameters=certificate.parameter_count(path.read_bytes()),
        training=card.training(config),
        licence=card.LICENCE,
    )


def fit(folder: Path, items: list[dataset.ColorItem]) -> None:
    """Write the temperatures with the least cross entropy on crops that are not trained on.

    One is for crops of an object class that the model knows, one for the others, mostly products:
    their labels are noisier, so the model should be less sure of them. Where all crops are of one
    kind, a single temperature serves.
    folder: of a model whose temperatures are 1.
    """
    model = ColorModel(Interpreter.load(folder))
    answers = ask(model, items)
    known = model.manifest.input.classes
    has_class = np.array([item.object_class in known for item in items])
    kinds = [kind for kind in (has_class, ~has_class) if kind.any()]
    best = [round(best_temperature(select(answers, kind)), 3) for kind in kinds]
    decoder = Decoder(
        name=DECODER,
        temperature=best[0],
        temperature_without_class=best[1] if len(best) > 1 else None,
        unknown_below=UNKNOWN_BELOW,
    )
    manifest.write(folder, msgspec.structs.replace(manifest.read(folder), decoder=decoder))


def best_temperature(answers: Answers) -> float:
    """Return the divisor of the logits with the least cross entropy.

    answers: of a model whose temperature is 1; the logarithms of its shares serve as logits.
    """
    logits = np.log(answers.shares.clip(1e-12))
    rows = np.arange(len(logits))
    losses = []
    for temperature in TEMPERATURES:
        scaled = logits / temperature
        norm = np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)) + scaled.max(1)
        losses.append((norm - scaled[rows, answers.labels]).mean())
    return float(TEMPERATURES[int(np.argmin(losses))])


def finish(folder: Path, answers: Answers, data: Path) -> Manifest:
    """Write the golden picture and the manifest with its figures; return that manifest.

    data: folder of the validation crops, as the figures' commands name it.
    Raises ModelError when the finished folder cannot be loaded.
    """
    picture = golden_picture()
    picture_file.write(folder / GOLDEN, picture)
    shares = ColorModel(Interpreter.load(folder)).classify(picture)
    golden = Golden(
        file=GOLDEN,
        tolerance=GOLDEN_TOLERANCE,
        shares={share.name: round(share.score, 4) for share in shares},
    )
    fitted = manifest.read(folder)
    accuracy = card.accuracy(answers, fitted.name, fitted.decoder.unknown_below, data)
    final = msgspec.structs.replace(fitted, golden=golden, accuracy=accuracy)
    manifest.write(folder, final)
    ColorModel(Interpreter.load(folder))
    return final


def golden_picture() -> Image:
    """Return a drawn truck, red cab and white box, on a road; uint8 (120, 160, 3), BGR."""
    picture = np.full((120, 160, 3), (190, 170, 150), np.uint8)
    picture[84:] = (95, 98, 100)
    box, cab, glass, tyre = (235, 240, 240), (40, 35, 175), (70, 60, 55), (25, 25, 25)
    cv2.rectangle(picture, (56, 16), (150, 84), box, cv2.FILLED)
    cv2.rectangle(picture, (10, 34), (54, 92), cab, cv2.FILLED)
    cv2.rectangle(picture, (16, 40), (36, 58), glass, cv2.FILLED)
    cv2.rectangle(picture, (54, 84), (150, 92), cab, cv2.FILLED)
    for center in ((32, 94), (118, 94), (138, 94)):
        cv2.circle(picture, center, 11, tyre, cv2.FILLED)
        cv2.circle(picture, center, 5, (160, 160, 160), cv2.FILLED)
    return picture


def compare(
    network: ColorNet, config: ColorTraining, answers: Answers, items: list[dataset.ColorItem]
) -> None:
    """Print float and integer top-1 for each source."""
    for source in sorted(set(answers.sources)):
        chosen = [item for item in items if item.source == source]
        packed = arrays.pack(chosen, config.architecture.input_px, 0.0)
        before = top1(network, packed, torch.device("cpu"))
        after = figures(only(answers, source), UNKNOWN_BELOW)
        print(f"{source}: float top-1 {before:.3f}, int8 {after.top1:.3f}, ECE {after.ece:.3f}")
