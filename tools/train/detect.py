"""Train the detector from labels, in float: `edge-tools train detect`.

Starts from the published weights. The loss has two parts: one against the labels (augmented by
mosaic, scale, light and camera effects; `labels` describes how unlabelled classes are treated), and
one against the outputs of the published network (distillation), so that the network does not forget
what the labels do not show. The input size changes from step to step, so that one set of weights
serves every model size. The result is `best.pt`: the moving average of the weights with the best
AP50 on the validation pictures. Every command accepts it in place of yolox_nano.onnx.
Next step: `edge-tools train detect-int8 --weights OUT/best.pt`.

Started again with the same options, it resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge.errors import ConfigError
from edge.manifest import is_label
from tools import dataset, tracking
from tools.architectures import yolox
from tools.arguments import (
    LABEL_RULE,
    count,
    option,
    positive,
    positive_or_zero,
    seed,
    share_or_all,
)
from tools.dataset import Dataset
from tools.evaluate.accuracy import MIN_SCORE, Accuracy, collect, restrict_to_labels, score
from tools.input_size import InputSize
from tools.progress import track
from tools.train import assign, detect_augment, distil, labels
from tools.train.assign import Truth
from tools.train.detect_augment import Sample
from tools.train.detect_label_state import LabelTraining, State, as_params, save, start, to_device
from tools.train.detect_state import add_weights
from tools.train.device import usable_device
from tools.train.sampler import Sampler, sampler
from tools.train.steps import (
    Callbacks,
    rate_factor,
    set_rates,
    train_and_measure,
    update_average,
    warn_without_objects,
)

EXAMPLES = """\
example (started again, it resumes where it stopped):
  edge-tools train detect --weights ../shared/weights/yolox_nano.onnx \\
    --train ../shared/data/detection/train.json --val ../shared/data/detection/val.json \\
    --images ../shared/data/detection --output runs/detect
"""
CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
LATEST = "latest.pt"
SAVE_EVERY = 50  # steps
NOTHING_TO_LEARN = (
    "nothing is learned from: --label-weight is 0, and --teacher-weight is 0 or the weights do not "
    "know every label; give --label-weight 1"
)
TEACHER_SIZE = InputSize(416, 416)
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_weights(parser)
    parser.add_argument("--train", type=Path, required=True, help="COCO JSON")
    parser.add_argument("--val", type=Path, required=True, help="COCO JSON to measure on")
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    option(parser, "--output", Path, Path("runs/detect"), "run's folder")
    option(parser, "--steps", count, LabelTraining.steps, "number of steps, 16 pictures each")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=LabelTraining.sizes,
        help="input sides in pixels, one drawn per step; default: 256,288,320,352,384,416",
    )
    _add_learning(parser)
    parser.add_argument(
        "--rectify",
        action="store_true",
        help="replace the stem's first SiLU by a ReLU: about an eighth faster, needs no groups",
    )
    parser.add_argument(
        "--labels",
        type=_names,
        help='classes: person,forklift,"truck, large"; default: those of the weights',
    )
    option(parser, "--seed", seed, LabelTraining.seed, "of picture order and augmentation")
    option(parser, "--every", count, 300, "steps between measurements")
    option(parser, "--size", InputSize.parse, LabelTraining.size, "input size of the measurements")
    option(parser, "--patience", count, 4, "stop after so many measurements without improvement")
    option(parser, "--device", usable_device, "cpu", "of PyTorch: cpu, cuda, …")
    option(parser, "--threads", count, 1, "CPU threads of PyTorch")
    tracking.add_argument(parser)


def _add_learning(parser: argparse.ArgumentParser) -> None:
    option(
        parser,
        "--learning-rate",
        positive,
        LabelTraining.learning_rate,
        "relative to each tensor's root mean square",
    )
    option(
        parser,
        "--label-weight",
        positive_or_zero,
        LabelTraining.label_weight,
        "of the loss against the labels, 0: the teacher alone",
    )
    option(
        parser,
        "--teacher-weight",
        positive_or_zero,
        LabelTraining.teacher_weight,
        "of the loss against the starting network, 0: labels alone",
    )
    option(
        parser,
        "--balance",
        share_or_all,
        LabelTraining.balance,
        "draw rare labels more often; 0: no, 1: all labels equally often",
    )


def run(args: argparse.Namespace) -> int:
    """Train to the last step or until AP50 stops improving; write `best.pt`, `metrics.jsonl`."""
    torch.set_num_threads(args.threads)
    validation = dataset.read(args.val, args.images)
    training = dataset.read(args.train, args.images)
    config = _config(args)
    labels.refuse_unknown(training, config.labels, args.weights)
    validation = restrict_to_labels(validation, config.labels)
    warn_without_objects(validation)
    args.output.mkdir(parents=True, exist_ok=True)
    state = start(config, args.weights, args.output / CHECKPOINT, args.device, training)
    state.origin = f"{yolox.origin(args.weights)}; then labels of {training.name}"
    kept = args.output / _detections_file(config)
    detections = labels.teacher_detections(
        args.weights, training, TEACHER_SIZE, config.labels, kept
    )
    pictures = sampler(labels.build_targets(training, detections, config.labels), config.balance)
    teacher = to_device(yolox.load(args.weights, labels=config.labels), args.device)
    with tracking.start(
        "detect",
        params=as_params(config),
        uri=args.tracking_uri,
        data=[args.train],
        folder=args.output,
    ) as record:
        callbacks = Callbacks(
            lambda steps: train(config, state, teacher, pictures, steps, args.output / CHECKPOINT),
            lambda: measure(state, validation, args.size, args.output / LATEST),
            lambda: _keep_latest(args.output),
            lambda: save(config, state, args.output / CHECKPOINT),
        )
        train_and_measure(args, config, state, callbacks, record)
    print(f"{args.output / BEST}: AP50 {state.best:.4f} at {args.size} after {state.step} steps")
    return 0


def _config(args: argparse.Namespace) -> LabelTraining:
    """Return the config that the command's arguments describe.

    Raises ConfigError when it leaves neither labels nor a teacher to learn from.
    """
    wanted = LabelTraining(
        steps=args.steps,
        sizes=args.sizes,
        learning_rate=args.learning_rate,
        label_weight=args.label_weight,
        teacher_weight=args.teacher_weight,
        balance=args.balance,
        is_rectified=args.rectify,
        size=args.size,
        seed=args.seed,
        labels=args.labels or yolox.stored_labels(args.weights),
        weights_sha256=tracking.hash_of([args.weights]),
        data_sha256=tracking.hash_of([args.train]),
        val_sha256=tracking.hash_of([args.val]),
    )
    config = _without_unfit_teacher(wanted, args.weights)
    if not config.label_weight and not config.teacher_weight:
        raise ConfigError(NOTHING_TO_LEARN)
    return config


def train(
    config: LabelTraining,
    state: State,
    teacher: nn.Module,
    pictures: Sampler,
    steps: int,
    path: Path,
) -> float:
    """Run `steps` steps, saving a checkpoint to `path` every SAVE_EVERY; return the mean loss."""
    device = next(state.net.parameters()).device
    total = 0.0
    for _ in track(range(steps), f"from step {state.step}"):
        set_rates(state.optimizer, rate_factor(state.step, config.steps, config.warmup_steps))
        images, truths = _batch(config, pictures, state.step, device)
        value = _loss(config, state.net, teacher, images, truths)
        state.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.net.parameters(), 20.0)
        state.optimizer.step()
        state.step += 1
        update_average(state.average, state.net, state.step, config.ema)
        total += float(value.detach())
        if state.step % SAVE_EVERY == 0:
            save(config, state, path)
    return total / steps


def measure(state: State, data: Dataset, size: InputSize, latest: Path) -> Accuracy:
    """Write the averaged weights to `latest` and return their accuracy in float.

    The input follows each picture's aspect ratio, as that of the finished model will.
    """
    from tools.float_detector import FloatDetector

    yolox.save(state.average, latest, f"{state.origin}, {state.step} steps")
    detector = FloatDetector(latest, size, min_score=MIN_SCORE, follows_frame=True)
    return score(data, collect(detector.detect, data))


def _keep_latest(out: Path) -> None:
    """Keep the weights that were measured last as the best ones."""
    (out / LATEST).replace(out / BEST)


def _loss(
    config: LabelTraining,
    net: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    truths: list[Truth],
) -> Tensor:
    outputs = net(images)
    total = torch.zeros((), device=images.device)
    if config.label_weight:
        total = total + config.label_weight * assign.loss(outputs, truths, yolox.STRIDES)
    if config.teacher_weight:
        with torch.no_grad():
            wanted = distil.own_classes_only(teacher(images), yolox.STRIDES)
        total = total + config.teacher_weight * distil.loss(outputs, wanted, yolox.STRIDES)
    return total


def _batch(
    config: LabelTraining, pictures: Sampler, step: int, device: torch.device
) -> tuple[Tensor, list[Truth]]:
    """Return a step's inputs and ground truth; they depend only on the seed and the step number."""
    rng = random.Random(config.seed * 1_000_003 + step)
    size = rng.choice(config.sizes)
    ends = step >= config.steps * (1 - config.plain)
    samples = [
        detect_augment.mosaic(pictures.draw(4, rng), size, rng)
        if not ends and rng.random() < config.mosaic
        else detect_augment.single(pictures.draw(1, rng)[0], size, rng)
        for _ in range(config.batch)
    ]
    stacked = np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.ascontiguousarray(stacked)).to(device).float()
    return images.contiguous(memory_format=torch.channels_last), [
        _truth(sample, device) for sample in samples
    ]


def _truth(sample: Sample, device: torch.device) -> Truth:
    return Truth(
        torch.from_numpy(sample.boxes).to(device),
        torch.from_numpy(sample.labels).to(device),
        torch.from_numpy(sample.ignored).to(device),
    )


def _detections_file(config: LabelTraining) -> str:
    """Return a cache file name that is unique to the teacher, the set and the labels."""
    mark = f"{config.weights_sha256} {config.data_sha256} {config.labels}"
    return f"suspected-{hashlib.sha256(mark.encode()).hexdigest()[:16]}.json"


def _without_unfit_teacher(config: LabelTraining, weights: Path) -> LabelTraining:
    """Return the config, without a teacher if the weights do not know every label."""
    if config.teacher_weight and not yolox.trained_labels(weights).issuperset(config.labels):
        logger.warning("train.no_teacher reason=%s does not know every label", weights)
        return replace(config, teacher_weight=0.0)
    return config


def _names(text: str) -> tuple[str, ...]:
    try:
        row = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:  # a line break
        row = []
    names = tuple(part.strip() for part in row)
    if not names or not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r}: different names, separated by commas")
    if not all(map(is_label, names)):
        raise argparse.ArgumentTypeError(
            f"{text!r}: {LABEL_RULE}; edge-tools data import --rename OLD=NEW gives others"
        )
    return names


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 and int(part) % 32 == 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not multiples of 32, such as 288,352")
    return tuple(map(int, parts))
