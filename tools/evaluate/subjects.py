"""Models that can be measured: model folders, .tflite files of known families, float originals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge.detector import Detector
from edge.errors import ModelError
from edge.interpreter import Interpreter
from edge.values import Detection, Image
from tools import model_kind
from tools.evaluate.accuracy import MIN_SCORE
from tools.input_size import InputSize

if TYPE_CHECKING:
    from tools.fastest_det import FastestDet
    from tools.float_detector import FloatDetector

FLOAT_SIZE = InputSize(416, 416)  # input size of the published yolox_nano.onnx


@dataclass(frozen=True)
class Subject:
    """A detector to be measured.

    detect: returns a frame's objects. invoke: runs only the network, on the last frame. folder: the
    model folder, if it has one. size: input as width x height. arithmetic: `integer-only`,
    `part float` or `float`. digest: identifies weights, decoder and input. labels: its classes.
    """

    name: str
    detect: Callable[[Image], list[Detection]]
    invoke: Callable[[], object]
    folder: Path | None
    size: str
    arithmetic: str
    file_bytes: int
    runtime: str
    digest: str
    labels: Sequence[str]

    def show(self, bgr: Image) -> None:
        """Put a picture into the network at its own size, at which `invoke` is then timed.

        bgr: uint8, (height, width, 3), of any shape: it is stretched to that of the input.
        """
        width, height = (int(side) for side in self.size.split("x"))
        self.detect(np.asarray(cv2.resize(bgr, (width, height)), np.uint8))


@dataclass(frozen=True)
class Options:
    """How models are loaded. float_size: input size of float originals."""

    xnnpack: bool = True
    float_size: InputSize = FLOAT_SIZE


def load(model: str, stack: ExitStack, options: Options) -> Subject:
    """Load a detector by name or path.

    model: name of an installed model, model folder, .tflite file of a known COCO detector (imported
    into a temporary folder), FastestDet.onnx, or a float original: yolox_nano.onnx or a .pt file
    from training.
    stack: removes the temporary folder. Raises ModelError when there is no such model.
    """
    path = Path(model)
    if path.suffix in (".onnx", ".pt"):
        return _onnx(_existing(path), options)
    if path.suffix == ".tflite":
        return _folder(_imported(_existing(path), stack), options, path.stem)
    folder = model_kind.folder_of(model)
    return _folder(folder, options, folder.resolve().name)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; name a model folder, .tflite, .onnx or .pt file")
    return path


def _folder(folder: Path, options: Options, name: str) -> Subject:
    loaded = Interpreter.load(folder, xnnpack=options.xnnpack)
    detector = Detector(loaded, min_score=MIN_SCORE)
    width, height = loaded.manifest.input.size
    return Subject(
        name=name,
        detect=detector.detect,
        invoke=loaded.invoke,
        folder=folder,
        size=f"{width}x{height}",
        arithmetic="integer-only" if loaded.manifest.certificate.integer_only else "part float",
        file_bytes=(folder / loaded.manifest.file).stat().st_size,
        runtime=loaded.runtime,
        digest=f"{loaded.manifest.sha256} {loaded.manifest.decoder} {loaded.manifest.input}",
        labels=loaded.manifest.labels,
    )


def _imported(path: Path, stack: ExitStack) -> Path:
    """Return a temporary model folder for a file whose decoder its outputs determine."""
    from tools import foreign_file, import_model

    decoder = foreign_file.decoder_of(foreign_file.read(path))
    class_ids, classes = import_model.read_labels(import_model.default_labels(decoder))
    parent = stack.enter_context(TemporaryDirectory(prefix="edge-import-"))
    folder = Path(parent) / path.stem
    import_model.import_file(
        path, folder, import_model.ImportOptions(decoder, path.stem, class_ids, classes)
    )
    return folder


def _onnx(path: Path, options: Options) -> Subject:
    if "fastestdet" in path.stem.lower():
        from tools.fastest_det import FastestDet

        fastest = FastestDet(path, min_score=MIN_SCORE)
        size = f"{fastest.width}x{fastest.height}"
        return _float(path, fastest, size, "onnxruntime")
    from tools.float_detector import FloatDetector

    is_trained = path.suffix == ".pt"  # original of models whose input follows the frame
    original = FloatDetector(
        path, options.float_size, min_score=MIN_SCORE, follows_frame=is_trained
    )
    return _float(path, original, str(options.float_size), "torch")


def _float(path: Path, original: FastestDet | FloatDetector, size: str, runtime: str) -> Subject:
    content = path.read_bytes()
    return Subject(
        name=path.stem,
        detect=original.detect,
        invoke=original.invoke,
        folder=None,
        size=size,
        arithmetic="float",
        file_bytes=len(content),
        runtime=runtime,
        digest=hashlib.sha256(content).hexdigest(),
        labels=original.labels,
    )


def baselines(folder: Path) -> Iterator[Path]:
    """Yield the .tflite and .onnx files of a folder, sorted by name.

    Raises ModelError when there are none.
    """
    found = sorted([*folder.glob("[!.]*.tflite"), *folder.glob("[!.]*.onnx")])
    if not found:
        raise ModelError(f"--baselines {folder}: no .tflite or .onnx file there")
    yield from found
