"""Train the detector through its own int8 arithmetic: `edge-tools train detect-int8`.

Quantization-aware training by distillation: the student is the graph that is written as int8, run
with fake-quantized weights and activations; the teacher is the float original on the same pictures.
No labels are used. Activation ranges are measured once and stay fixed. At intervals the moving
average of the weights is written as .tflite and measured on the validation pictures with the
daemon's own code; the best is kept as the folder `best` and the checkpoint `best.pt`.

Started again with the same options, it resumes from its checkpoint. One core processes 3 to 5
pictures a second at 320 (`MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296` in
the environment avoids page faults). A few hundred steps are enough: accuracy cannot exceed the
teacher's.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from edge.errors import InputError
from edge.values import Image
from tools import dataset, tracking
from tools.architectures import yolox
from tools.arguments import count, option, seed
from tools.dataset import Dataset, Picture
from tools.evaluate.accuracy import Accuracy, evaluate, restrict_to_labels
from tools.input_size import InputSize
from tools.progress import track
from tools.quantize import Calibration, FakeQuantizer, calibrate
from tools.quantize.ranges import PIXELS, batches
from tools.quantize_detect import facts_of, letterboxed, stem_groups, write_model
from tools.train.detect_state import (
    CHECKPOINT,
    DetectTraining,
    State,
    add_stem,
    add_weights,
    as_params,
    build,
    described,
    resume,
    save,
)
from tools.train.distil import loss, mirror_averaged
from tools.train.steps import (
    Callbacks,
    rate_factor,
    relative_adam,
    set_rates,
    train_and_measure,
    update_average,
    warn_without_objects,
)

EXAMPLES = """\
example (started again, it resumes where it stopped):
  edge-tools train detect-int8 --weights ../shared/weights/yolox_nano.onnx \\
    --train ../shared/data/detection/train.json --val ../shared/data/detection/val.json \\
    --images ../shared/data/detection --output runs/detect-int8
"""
BEST = "best"
SAVE_EVERY = 10  # steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_weights(parser)
    parser.add_argument("--train", type=Path, required=True, help="COCO JSON; labels are not read")
    parser.add_argument("--val", type=Path, required=True, help="COCO JSON to measure on")
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    option(parser, "--output", Path, Path("runs/detect-int8"), "checkpoint folder")
    option(parser, "--steps", count, DetectTraining.steps, "number of steps, 16 pictures each")
    option(parser, "--size", InputSize.parse, DetectTraining.size, "input size: 352x288, 416")
    add_stem(parser, groups=DetectTraining.groups)
    option(parser, "--seed", seed, DetectTraining.seed, "of picture order and augmentation")
    parser.add_argument(
        "--mirrored", action="store_true", help="average the teacher over mirrored pictures, too"
    )
    option(parser, "--every", count, 100, "steps between measurements")
    option(parser, "--patience", count, 4, "stop after so many measurements without improvement")
    option(parser, "--threads", count, 1, "CPU threads of PyTorch")
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train to the last step or until AP50 stops improving; write metrics, `best`, `best.pt`."""
    torch.set_num_threads(args.threads)
    training = dataset.read(args.train, args.images)
    validation = _validation(args)
    config = _config(args)
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / CHECKPOINT
    state = resume(config, args.weights, path) if path.exists() else start(config, args, training)
    teacher = yolox.load(args.weights)
    with tracking.start(
        "detect-int8",
        params=as_params(config),
        uri=args.tracking_uri,
        data=[args.train],
        folder=args.output,
    ) as record:
        callbacks = Callbacks(
            lambda steps: train(config, state, teacher, training.pictures, steps, path),
            lambda: measure(config, state, validation, args.output / "latest"),
            lambda: keep(config, state, args.output),
            lambda: save(config, state, path),
        )
        train_and_measure(args, config, state, callbacks, record)
    print(f"{args.output / BEST}.pt: AP50 {state.best:.4f} after at most {state.step} steps")
    return 0


def _validation(args: argparse.Namespace) -> Dataset:
    """Return the validation set with the classes of the weights; InputError if it has only others.

    Without objects, only a warning is logged.
    """
    data = dataset.read(args.val, args.images)
    labels = yolox.stored_labels(args.weights)
    known = restrict_to_labels(data, labels)
    if data.annotations and not known.annotations:
        raise InputError(
            f"{data.name}: none of its objects is one of {', '.join(labels)}, which "
            f"{args.weights} detects; name your own best.pt with --weights"
        )
    warn_without_objects(known)
    return known


def _config(args: argparse.Namespace) -> DetectTraining:
    """Return the config that the command's arguments describe."""
    groups = args.groups or (1 if yolox.is_rectified(args.weights) else DetectTraining.groups)
    return DetectTraining(
        size=args.size,
        groups=groups,
        rank=args.stem_rank,
        steps=args.steps,
        seed=args.seed,
        is_mirrored=args.mirrored,
        weights_sha256=tracking.hash_of([args.weights]),
        data_sha256=tracking.hash_of([args.train]),
        val_sha256=tracking.hash_of([args.val]),
    )


def start(config: DetectTraining, args: argparse.Namespace, training: Dataset) -> State:
    """Return a run's initial state: float weights, and ranges measured on training pictures."""
    chosen = dataset.stratified(training.pictures, config.calibration)
    images = [letterboxed(dataset.load(picture), config.size) for picture in chosen]
    groups = stem_groups(args.weights, images, config.groups)
    graph = build(args.weights, groups, config.rank, config.size, images)
    ranges = calibrate(graph, images, options=Calibration(percentile=config.percentile))
    average = copy.deepcopy(graph)
    labels = yolox.stored_labels(args.weights)
    origin = yolox.origin(args.weights)
    return State(
        graph, average, ranges, groups, labels, origin, relative_adam(graph, config.learning_rate)
    )


def train(
    config: DetectTraining,
    state: State,
    teacher: torch.nn.Module,
    pictures: tuple[Picture, ...],
    steps: int,
    path: Path,
) -> float:
    """Run `steps` steps, saving a checkpoint to `path` every SAVE_EVERY; return the mean loss."""
    quantizer = FakeQuantizer(state.graph, state.ranges)
    first = state.step
    total = 0.0
    for batch in track(_batches(config, pictures, first, steps), f"from step {first}", total=steps):
        set_rates(state.optimizer, rate_factor(state.step, config.steps, config.warmup_steps))
        with torch.no_grad():
            wanted = mirror_averaged(teacher, batch) if config.is_mirrored else teacher(batch)
        value = loss(state.graph(batch, quantizer), wanted, yolox.STRIDES)
        state.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.step += 1
        update_average(state.average, state.graph, state.step, config.ema)
        total += float(value.detach())
        if state.step % SAVE_EVERY == 0:
            save(config, state, path)
    return total / steps


def _batches(
    config: DetectTraining, pictures: tuple[Picture, ...], first: int, steps: int
) -> Iterator[Tensor]:
    """Yield each step's batch; its pictures depend only on the seed and the step number."""
    for step in range(first, first + steps):
        rng = random.Random(config.seed * 1_000_003 + step)
        draw = rng.sample if len(pictures) >= config.batch else rng.choices
        chosen = draw(pictures, k=config.batch)
        images = [letterboxed(_augmented(dataset.load(item), rng), config.size) for item in chosen]
        yield from batches(images, PIXELS, config.batch)


def _augmented(bgr: Image, rng: random.Random) -> Image:
    """Return a random crop of 60 to 100 % of each side, mirrored with a chance of one half."""
    height, width = bgr.shape[:2]
    share = rng.uniform(0.6, 1.0)
    rows, columns = max(int(height * share), 1), max(int(width * share), 1)
    top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
    part = bgr[top : top + rows, left : left + columns]
    return part[:, ::-1].copy() if rng.random() < 0.5 else part


def measure(config: DetectTraining, state: State, data: Dataset, folder: Path) -> Accuracy:
    """Write the averaged weights as a model folder and return its accuracy."""
    write_average(config, state, folder)
    return evaluate(folder, data)


def keep(config: DetectTraining, state: State, out: Path) -> None:
    """Write the averaged weights as the best ones: a model folder and a checkpoint."""
    write_average(config, state, out / BEST)
    save(config, state, out / f"{BEST}.pt")


def write_average(config: DetectTraining, state: State, folder: Path) -> None:
    """Write the averaged weights as a model folder; the model is named after the run's folder."""
    training = {"weights": state.origin} | described(config, state.step)
    facts = facts_of(state.average, folder.resolve().parent.name, training, state.labels)
    write_model(folder, state.average, state.ranges, facts)
