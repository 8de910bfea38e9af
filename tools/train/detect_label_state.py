"""Config and checkpoint of the detector's training from labels (`train detect`)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tools import dataset, tensor_file
from tools.architectures import yolox
from tools.dataset import Dataset
from tools.input_size import InputSize
from tools.quantize_detect import letterboxed
from tools.train import rectify
from tools.train.detect_state import DetectTraining
from tools.train.steps import refuse_other_config, relative_adam

RECTIFIED = "rectified.pt"
RECTIFIED_ON = 96  # number of pictures that the rectified stem is fitted on
RECTIFIED_AT = InputSize(416, 352)
# Root mean square of the shipped class layers, in which the rows of new labels start at zero.
NEW_LABELS_RMS = 0.06


@dataclass(frozen=True)
class LabelTraining:
    """Settings of one training run.

    sizes: side lengths of the square input in pixels, one drawn per step. batch: pictures per step.
    learning_rate: relative to each tensor's root mean square. ema: decay of the moving average of
        the weights. label_weight, teacher_weight: of the two losses; 0 leaves one out.
    mosaic: share of inputs that are mosaics. plain: last share of the steps, without mosaics.
    balance: how much more often pictures with rare labels are drawn; 0: all pictures equally
        often, 1: all labels equally often (Gupta et al. 2019, "LVIS", appendix, uses 0.5).
    is_rectified: whether the stem's first SiLU is replaced by a ReLU before training.
    size: input size of the measurements, which select the best weights.
    weights_sha256, data_sha256, val_sha256: of the initial weights and of the JSON files of
        training and validation set.
    """

    steps: int = 2400
    batch: int = 16
    sizes: tuple[int, ...] = (256, 288, 320, 352, 384, 416)
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    ema: float = 0.998
    label_weight: float = 1.0
    teacher_weight: float = 0.5
    mosaic: float = 0.5
    plain: float = 0.2
    balance: float = 0.5
    is_rectified: bool = False
    size: InputSize = DetectTraining.size
    seed: int = 1
    labels: tuple[str, ...] = yolox.LABELS
    weights_sha256: str = ""
    data_sha256: str = ""
    val_sha256: str = ""


@dataclass
class State:
    """State of a run; `average` is the exponential moving average of `net`.

    step, best, bad: see `steps.Progress`. origin: of the weights, human-readable; not in the
    checkpoint.
    """

    net: yolox.YoloxNano
    average: yolox.YoloxNano
    optimizer: torch.optim.Adam
    origin: str = ""
    step: int = 0
    best: float = -1.0
    bad: int = 0


def start(
    config: LabelTraining, weights: Path, checkpoint: Path, device: torch.device, training: Dataset
) -> State:
    """Return a run's state: from its checkpoint if there is one, else the initial one.

    training: set from which the pictures for fitting a rectified stem are taken, once per run.
    Raises InputError naming the differing options when the checkpoint has another config.
    """
    stored = _read_checkpoint(config, checkpoint, device) if checkpoint.exists() else None
    net = yolox.load(weights, labels=config.labels)
    if config.is_rectified and not net.backbone.stem.is_rectified:
        net = _rectified(net, weights, training, checkpoint)
    net = to_device(net, device)
    average = copy.deepcopy(net)
    optimizer = relative_adam(net, config.learning_rate, of_zeros=NEW_LABELS_RMS)
    state = State(net, average, optimizer)
    if stored is None:
        return state
    net.load_state_dict(stored["net"])
    average.load_state_dict(stored["average"])
    state.optimizer.load_state_dict(stored["optimizer"])
    state.step, state.best, state.bad = stored["step"], stored["best"], stored["bad"]
    return state


def _read_checkpoint(
    config: LabelTraining, checkpoint: Path, device: torch.device
) -> dict[str, Any]:
    stored = tensor_file.read(checkpoint, ("config", "net"), "train detect", device)
    refuse_other_config(checkpoint, stored["config"], as_params(config))
    return stored


def _rectified(
    net: yolox.YoloxNano, weights: Path, training: Dataset, checkpoint: Path
) -> yolox.YoloxNano:
    """Return the network with a rectified stem: newly fitted, or the run's stored one."""
    path = checkpoint.with_name(RECTIFIED)
    if not checkpoint.exists():
        chosen = dataset.stratified(training.pictures, RECTIFIED_ON)
        images = [letterboxed(dataset.load(picture), RECTIFIED_AT) for picture in chosen]
        origin = f"{yolox.origin(weights)}; its stem is rectified"
        yolox.save(rectify.rectified(net, images), path, origin)
    return yolox.load(path, labels=net.labels)


def save(config: LabelTraining, state: State, path: Path) -> None:
    """Write a checkpoint atomically: a killed process leaves the previous one intact."""
    content = {
        "config": as_params(config),
        "net": state.net.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "best": state.best,
        "bad": state.bad,
    }
    tensor_file.write(content, path)


def to_device(net: yolox.YoloxNano, device: torch.device) -> yolox.YoloxNano:
    """Return the network on a device, in channels-last layout, which is the fastest."""
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def as_params(config: LabelTraining) -> dict[str, Any]:
    """Return a config's fields as stored in checkpoints and by the experiment tracker."""
    return asdict(config) | {
        "sizes": list(config.sizes),
        "size": str(config.size),
        "labels": list(config.labels),
    }
