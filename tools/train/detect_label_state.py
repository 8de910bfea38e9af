"""A detector's training from labels on disk: its config, and a checkpoint to go on from."""

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
RECTIFIED_ON = 96  # pictures
RECTIFIED_AT = InputSize(416, 352)
NEW_LABELS_RMS = 0.06  # of the shipped class layers; where all labels are new theirs are zeros


@dataclass(frozen=True)
class LabelTraining:
    """One run.

    sizes: input sides in pixels, one drawn for each step. batch: pictures a step.
    learning_rate: relative to each tensor's root mean square. ema: share of the moving average
    that a step keeps. label_weight, teacher_weight: of the two losses; 0 leaves one out.
    mosaic: share of pictures that are mosaics; none in the last `plain` share of the steps.
    balance: pictures of rare labels are drawn more often, 0: not at all, 1: so that all labels are
        drawn alike (Gupta et al. 2019, "LVIS", appendix, has 0.5).
    is_rectified: whether the stem's first SiLU becomes a ReLU before training.
    size: of the measurements, which choose the best weights.
    weights_sha256, data_sha256, val_sha256: of the weights it starts from and of the JSON of the
        sets that it learns from and is measured on.
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
    """What a checkpoint holds. best: AP50, -1 before it is measured. bad: measurements since then.

    origin: where the weights come from, for people; not in the checkpoint.
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
    """Return a run's state: from its checkpoint, or before its first step.

    training: a stem is rectified on some of its pictures, once for a run.
    Raises InputError naming what differs when the checkpoint was made with another config.
    """
    stored = _stored(config, checkpoint, device) if checkpoint.exists() else None
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


def _stored(config: LabelTraining, checkpoint: Path, device: torch.device) -> dict[str, Any]:
    stored = tensor_file.read(checkpoint, ("config", "net"), "train detect", device)
    refuse_other_config(checkpoint, stored["config"], as_params(config))
    return stored


def _rectified(
    net: yolox.YoloxNano, weights: Path, training: Dataset, checkpoint: Path
) -> yolox.YoloxNano:
    """Return the network with a rectified stem, the stored one where the run has a checkpoint."""
    path = checkpoint.with_name(RECTIFIED)
    if not checkpoint.exists():
        chosen = dataset.stratified(training.pictures, RECTIFIED_ON)
        images = [letterboxed(dataset.load(picture), RECTIFIED_AT) for picture in chosen]
        origin = f"{yolox.origin(weights)}; its stem is rectified"
        yolox.save(rectify.rectified(net, images), path, origin)
    return yolox.load(path, labels=net.labels)


def save(config: LabelTraining, state: State, path: Path) -> None:
    """Write a checkpoint; a kill in between leaves the one before."""
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
    """Return the network on a device, in the memory layout that is fastest there."""
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def as_params(config: LabelTraining) -> dict[str, Any]:
    """Return a config's fields as a checkpoint and the experiment tracker hold them."""
    return asdict(config) | {
        "sizes": list(config.sizes),
        "size": str(config.size),
        "labels": list(config.labels),
    }
