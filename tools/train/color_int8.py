"""Train the color network through its own int8 arithmetic: `edge-tools train color-int8`.

Quantization-aware training by distillation: the student is the graph that is written as int8, run
with rounded weights and activations; the teacher is the float network on the same augmented crops.
No labels are used. Ranges are measured once and stay fixed. The result is the moving average of the
weights; at intervals it is written as a .tflite file and measured with the daemon's own code.
Next step: `edge-tools quantize color FLOAT/checkpoint.pt --int8 OUT/checkpoint.pt`.

Started again with the same options, a run continues from its checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edge.color import ColorModel
from edge.errors import InputError
from edge.interpreter import Interpreter
from tools import json_file, package, tracking
from tools.architectures.color import OUTPUT, ColorArchitecture, ColorNet
from tools.arguments import count, option, percentile, seed
from tools.color import quantize
from tools.color.data import arrays, dataset
from tools.color.data.arrays import Packed
from tools.color.data.dataset import ColorItem
from tools.color.evaluate import ask
from tools.color.figures import figures, groups
from tools.progress import track
from tools.quantize import Calibration, FakeQuantizer, calibrate, write
from tools.train import commands
from tools.train.color import MARGIN, STORED, inputs
from tools.train.color_augment import seed_generators
from tools.train.color_int8_state import (
    CHECKPOINT,
    ColorInt8Training,
    State,
    build,
    resume,
    save,
    start,
)
from tools.train.color_state import ColorTraining, load_network
from tools.train.steps import METRICS_FILE, rate_factor, set_rates, update_average

EXAMPLES = """\
example (started again, it resumes where it stopped):
  edge-tools train color-int8 runs/color/checkpoint.pt --data ../shared/data \\
    --output runs/color-int8
"""
SAVE_EVERY = 10  # steps
CPU = torch.device("cpu")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Original:
    """The float network (the teacher), its training config, and the crops of its training set."""

    config: ColorTraining
    network: ColorNet
    crops: Packed

    @property
    def size(self) -> ColorArchitecture:
        """Return the network's architecture."""
        return self.config.architecture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("weights", type=Path, help="checkpoint.pt of `edge-tools train color`")
    parser.add_argument("--data", type=Path, required=True, help="folder with color/, scene_color/")
    option(parser, "--output", Path, Path("runs/color-int8"), "run's folder")
    option(parser, "--steps", count, ColorInt8Training.steps, "of 64 crops")
    option(parser, "--percentile", percentile, ColorInt8Training.percentile, "of activation ranges")
    option(parser, "--seed", seed, ColorInt8Training.seed, "of order and augmentation")
    option(parser, "--every", count, 100, "steps between measurements")
    option(parser, "--threads", count, 1, "CPU threads of PyTorch")
    tracking.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train to the last step; write `checkpoint.pt`, `metrics.jsonl` and the folder `latest`."""
    torch.set_num_threads(args.threads)
    checks = dataset.validation_items(args.data)
    original = read_original(args.weights, args.data, args.output.parent / "cache")
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / CHECKPOINT
    config = ColorInt8Training(
        percentile=args.percentile,
        steps=args.steps,
        seed=args.seed,
        float_sha256=tracking.hash_of([args.weights]),
        commands=commands.in_order(
            original.config.commands,
            commands.of_file(path, "train color-int8"),
            (args.command,),
        ),
    )
    if path.exists():
        state = resume(config, original.network, original.size, path)
    else:
        state = begin(config, original, args.data)
    with tracking.start(
        "color-int8",
        params=asdict(config),
        uri=args.tracking_uri,
        data=[args.weights, *sorted(args.data.glob("*color/*.json"))],
        folder=args.output,
    ) as record:
        while state.step < config.steps:
            steps = min(args.every - state.step % args.every, config.steps - state.step)
            mean_loss = train(config, original, state, steps, path)
            top1 = measure(original.config, state, checks, args.output, mean_loss)
            named = {f"top1 {name}": value for name, value in top1.items()}
            record.metrics(state.step, loss=mean_loss, **named)
            save(config, state, path)
    further = shlex.join([str(args.weights), "--int8", str(path), "--data", str(args.data)])
    print(f"{path}: {state.step} steps; `edge-tools quantize color {further} --output FOLDER`")
    return 0


def read_original(weights: Path, data: Path, cache: Path) -> Original:
    """Return the float network with its training crops, without those that it held out.

    Raises InputError when no crop is left.
    """
    config, network = load_network(weights)
    items = dataset.training_items(data)
    items, _ = dataset.by_picture(items, config.hold_out, config.hold_from)
    if not items:
        raise InputError(f"{weights} held out all that {data} has; name more with --data")
    side = round(STORED * config.architecture.input_px)
    return Original(config, network, arrays.pack_cached(items, side, MARGIN, cache))


def begin(config: ColorInt8Training, original: Original, data: Path) -> State:
    """Return a run's state before its first step: float weights, measured ranges."""
    size = original.size
    images = quantize.calibration_images(data, config.calibration, size.input_px)
    options = Calibration(percentile=config.percentile)
    ranges = calibrate(build(original.network, size), list(images), quantize.PIXELS, options)
    return start(config, original.network, size, ranges)


def train(
    config: ColorInt8Training, original: Original, state: State, steps: int, path: Path
) -> float:
    """Run `steps` steps, saving to `path` every SAVE_EVERY; return the mean loss."""
    quantizer = FakeQuantizer(state.graph, state.ranges)
    total = 0.0
    for _ in track(range(steps), f"from step {state.step}"):
        set_rates(state.optimizer, rate_factor(state.step, config.steps, config.warmup_steps))
        value = _loss(state, quantizer, original.network, _batch(config, original, state.step))
        state.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.step += 1
        update_average(state.average, state.graph, state.step, config.ema)
        total += float(value.detach())
        if state.step % SAVE_EVERY == 0:
            save(config, state, path)
    return total / steps


def _batch(config: ColorInt8Training, original: Original, step: int) -> Tensor:
    """Return a step's augmented crops; they depend on the seed and the step's number alone."""
    seed_generators(config.seed * 1_000_003 + step)
    rows = torch.randint(len(original.crops.rgb), (config.batch,))
    return inputs(original.config, original.crops, rows, CPU)


def _loss(state: State, quantizer: FakeQuantizer, teacher: ColorNet, batch: Tensor) -> Tensor:
    """Return how far the rounded graph's shares are from the float network's (KL divergence)."""
    with torch.no_grad():
        wanted = teacher(batch)[OUTPUT].log_softmax(1)
    answer = state.graph(batch, quantizer)[OUTPUT].log_softmax(1)
    return functional.kl_div(answer, wanted, reduction="batchmean", log_target=True)


def measure(
    of_float: ColorTraining, state: State, checks: list[ColorItem], out: Path, mean_loss: float
) -> dict[str, float]:
    """Write the average as a model folder; return its top-1 on validation crops by source."""
    folder = out / "latest"
    folder.mkdir(exist_ok=True)
    path = folder / package.MODEL_FILE
    write(state.average, state.ranges, path)
    facts = quantize.describe(path, of_float, folder.name, "0.0.0")
    package.write_folder(folder, path, facts)
    answers = ask(ColorModel(Interpreter.load(folder)), checks)
    top1 = {name: figures(some, 0.0).top1 for name, some in groups(answers).items()}
    row = {"step": state.step, "loss": mean_loss, "top1": top1}
    json_file.add_line(row, out / METRICS_FILE)
    logger.info("train.measured step=%d loss=%.4f top1=%s", state.step, mean_loss, top1)
    return top1
