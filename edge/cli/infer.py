"""`edge infer`: detection or color on images, folders and videos, as one JSON document."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edge import model_store
from edge.capture.address import IMAGE_SUFFIXES
from edge.capture.source import open_source, read_image
from edge.cli.progress import bar
from edge.color import ColorModel
from edge.config import CameraConfig, ColorConfig, DetectorConfig
from edge.detector import Detector
from edge.errors import EXIT_NO_INPUT, EXIT_OK, EdgeError, InputError
from edge.interpreter import Interpreter
from edge.pipeline import crop
from edge.values import ColorScore, Detection, Image

HELP = "Detect objects, or name colors, in images, folders and videos."
EXAMPLES = """examples:
  edge infer photo.jpg
  edge infer photos/ clip.mp4 --output found.json --annotate drawn/
  edge infer crops/ --task color        # every image is one object

output: [{"file", "width", "height", "detections": [{"label", "score", "box_px": [x, y, w, h],
"colors": [{"name", "score"}]}]}]; a video has one entry a frame, with its number as "frame".
With --task color an entry has "colors" instead, all 11 terms, best first."""

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".ts", ".webm"})
MIN_FURTHER_COLOR = ColorConfig().min_score


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to look at; `frame` counts a video's frames from 1, None for a still image."""

    path: Path
    bgr: Image
    frame: int | None

    def head(self) -> dict[str, Any]:
        """Return what every entry of the output begins with."""
        height, width = self.bgr.shape[:2]
        head: dict[str, Any] = {"file": str(self.path), "width": width, "height": height}
        return head if self.frame is None else {**head, "frame": self.frame}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="default: standard output")
    parser.add_argument("--min-score", type=_score, default=0.25, metavar="S", help="default 0.25")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="save pictures with boxes")
    parser.add_argument("--task", choices=("detect", "color"), default="detect")
    parser.add_argument(
        "--model", metavar="NAME", help="detector, or color model with --task color"
    )
    parser.add_argument("--color-model", default=ColorConfig().model, metavar="NAME")
    parser.add_argument("--no-color", action="store_true", help="do not name detections' colors")
    parser.add_argument("--threads", type=int, default=1, choices=range(1, 17), metavar="N")
    parser.add_argument("--models-dir", metavar="DIR", help="look for models here first")


def run(args: argparse.Namespace) -> int:
    """Write the document; 66 when an input could not be read, after all others are done."""
    paths = _expand(args.inputs)
    look = _color_task(args) if args.task == "color" else _detect_task(args)
    if args.annotate:
        _make_folder(args.annotate)
    entries: list[dict[str, Any]] = []
    unreadable = 0
    for path in bar(paths, len(paths), "files"):
        try:
            for picture in _pictures(path):
                entry = look(picture)
                entries.append(entry)
                if args.annotate:
                    _annotate(picture, entry, args.annotate)
        except InputError as error:
            unreadable += 1
            print(f"edge: {error}; skipped", file=sys.stderr)
    _write(entries, args.output)
    return EXIT_NO_INPUT if unreadable else EXIT_OK


def _score(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return value


def _detect_task(args: argparse.Namespace) -> Any:
    detector = Detector(
        Interpreter.load(
            model_store.find(args.model or DetectorConfig().model, args.models_dir),
            threads=args.threads,
        ),
        min_score=args.min_score,
    )
    color = None if args.no_color else _color_model(args, args.color_model)

    def look(picture: Picture) -> dict[str, Any]:
        found = detector.detect(picture.bgr)
        return {
            **picture.head(),
            "detections": [_detection(one, picture.bgr, color) for one in found],
        }

    return look


def _color_task(args: argparse.Namespace) -> Any:
    color = _color_model(args, args.model or args.color_model)

    def look(picture: Picture) -> dict[str, Any]:
        return {**picture.head(), "colors": _scores(color.classify(picture.bgr))}

    return look


def _color_model(args: argparse.Namespace, name: str) -> ColorModel:
    folder = model_store.find(name, args.models_dir)
    return ColorModel(Interpreter.load(folder, threads=args.threads))


def _detection(found: Detection, bgr: Image, color: ColorModel | None) -> dict[str, Any]:
    colors: list[ColorScore] = []
    bgr_crop = crop(bgr, found.box_px) if color else None
    if color and bgr_crop is not None:
        scores = color.classify(bgr_crop)
        further = [score for score in scores[1:] if score.score >= MIN_FURTHER_COLOR]
        colors = [ColorScore(color.dominant(scores), scores[0].score), *further]
    return {
        "label": found.label,
        "score": round(found.score, 5),
        "box_px": [round(value, 2) for value in found.box_px],
        "colors": _scores(colors),
    }


def _scores(colors: list[ColorScore]) -> list[dict[str, Any]]:
    return [{"name": color.name, "score": round(color.score, 5)} for color in colors]


def _expand(inputs: list[Path]) -> list[Path]:
    """Return the files to read: folders are replaced by the images and videos in them."""
    paths: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(
                entry
                for entry in path.iterdir()
                if entry.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
            )
            if not inside:
                raise InputError(f"{path}: no images or videos in this folder")
            paths += inside
        elif path.exists():
            paths.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return paths


def _pictures(path: Path) -> Iterator[Picture]:
    """Yield the image, or the frames of a video; InputError when it cannot be decoded."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield Picture(path, read_image(path), None)
        return
    source = open_source(CameraConfig(source=str(path), realtime=False))
    try:
        number = 0
        while (bgr := source.read()) is not None:
            number += 1
            yield Picture(path, bgr, number)
        if number == 0:
            raise InputError(f"{path}: a video without frames; is it complete?")
    except ValueError as error:
        raise InputError(f"{path}: frame {number + 1} is damaged ({error})") from None
    finally:
        source.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"{folder}: {error.strerror}; name a folder that can be made") from None


def _annotate(picture: Picture, entry: dict[str, Any], folder: Path) -> None:
    drawn = picture.bgr.copy()
    for found in entry.get("detections", ()):
        x, y, width, height = (round(value) for value in found["box_px"])
        color = f" {found['colors'][0]['name']}" if found["colors"] else ""
        text = f"{found['label']}{color} {found['score']:.2f}"
        cv2.rectangle(drawn, (x, y), (x + width, y + height), (0, 200, 255), 2)
        _caption(drawn, text, (x + 2, max(y - 4, 10)))
    if "colors" in entry:
        _caption(drawn, f"{entry['colors'][0]['name']} {entry['colors'][0]['score']:.2f}", (2, 12))
    frame = "" if picture.frame is None else f"-{picture.frame:06d}"
    path = folder / f"{picture.path.stem}{frame}.jpg"
    if not cv2.imwrite(str(path), drawn):
        raise EdgeError(f"{path}: cannot be written; is the disk full?")


def _caption(bgr: Image, text: str, at: tuple[int, int]) -> None:
    """Write text readable on any ground: light on a dark rim."""
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(bgr, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, thickness, cv2.LINE_AA)


def _write(entries: list[dict[str, Any]], output: Path | None) -> None:
    text = json.dumps(entries)
    if output is None:
        print(text)
        return
    try:
        output.write_text(text + "\n")
    except OSError as error:
        raise EdgeError(f"{output}: {error.strerror}; name a file that can be written") from None
