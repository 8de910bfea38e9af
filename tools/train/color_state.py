"""The state of a color training: its config, and its checkpoint on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge.color import TERMS
from edge.errors import InputError
from tools import tensor_file
from tools.architectures import efficientnet_lite
from tools.architectures.color import ColorArchitecture, ColorNet
from tools.train.color_augment import Augmentation
from tools.train.steps import option_text, refuse_other_config

COMMAND = "train color"
CHECKPOINT = "checkpoint.pt"
EPOCHS = "epochs"  # folder beside the checkpoint: the averaged network after each epoch


@dataclass(frozen=True)
class ColorTraining:
    """One run.

    architecture: size of the network.
    epochs: passes over the training crops; batch: crops a step.
    learning_rate: peak of the cosine; warmup_steps: linear rise before it.
    trunk_rate: learning rate of a pretrained trunk, as a factor of learning_rate.
    weight_decay: of convolution and linear weights.
    smoothing: share of each target spread over all terms, because labels contain errors.
    ema: share of the moving average that a step keeps.
    seed: of weights, order and augmentation.
    teachers: models whose answers are learned from, also of unlabelled boxes.
    teacher_share: of a labelled crop's target that the teachers give, where there are some.
    composites: further crops made of the labelled ones, whose truth is known; swatches: of one
        plain color each.
    weights_sha256: of the checkpoint whose network the run begins with; empty for a new one.
    labels_sha256: of the training labels.
    emphasis: of a target that goes to its leading term; 0 leaves the shares of the surface.
    hold_out: share of the pictures that runs are compared on in place of training; hold_from: where
        in their order it begins, 0..1.
    commands: all that made it, its teachers' first; they are not compared when a run continues.
    """

    architecture: ColorArchitecture = field(default_factory=ColorArchitecture)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 30
    batch: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 200
    trunk_rate: float = 0.5
    weight_decay: float = 0.03
    smoothing: float = 0.03
    ema: float = 0.998
    seed: int = 3
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    composites: int = 0
    swatches: int = 0
    weights_sha256: str = ""
    labels_sha256: str = ""
    emphasis: float = 0.0
    hold_out: float = 0.0
    hold_from: float = 0.0
    commands: tuple[str, ...] = field(default=(), compare=False)


@dataclass
class State:
    """What a checkpoint holds; epoch, step: the number of finished ones."""

    network: ColorNet
    average: ColorNet
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0


def start(config: ColorTraining, device: torch.device, weights: Path | None = None) -> State:
    """Return the state before the first epoch.

    weights: the checkpoint whose averaged network it starts from, of any input size, its blocks
        as wide or wider; None: a new network, with ImageNet weights where its trunk has them.
    Raises InputError when those are not installed, or the checkpoint is of another architecture.
    """
    torch.manual_seed(config.seed)
    network = _build(config, device)
    if weights is not None:
        _begin_with(network, config.architecture, weights)
    elif config.architecture.trunk == "efficientnet-lite0":
        efficientnet_lite.load_pretrained(network.trunk, efficientnet_lite.pretrained_file())
    average = _build(config, device)
    average.load_state_dict(network.state_dict())
    return State(network, average.eval(), _optimizer(config, network))


@torch.no_grad()
def _begin_with(network: ColorNet, size: ColorArchitecture, weights: Path) -> None:
    """Copy a checkpoint's averaged network, whose blocks may be wider than those of `network`."""
    found, source = load_network(weights)
    refuse_other_architecture(weights, found.architecture, size)
    if found.architecture.expansions != size.expansions:
        efficientnet_lite.load(network.trunk, source.trunk)
        source.trunk = network.trunk
    network.load_state_dict(source.state_dict())


def refuse_other_architecture(
    weights: Path, of: ColorArchitecture, size: ColorArchitecture
) -> None:
    """Raise InputError when a network of this size cannot begin with a checkpoint's.

    Only its input may have another size, and its blocks may be narrower.
    of: the checkpoint's architecture.
    """
    same = replace(of, input_px=size.input_px, expansions=size.expansions)
    wanted = asdict(size)
    other = [name for name, value in asdict(same).items() if value != wanted[name]]
    if other:
        found = ", ".join(option_text(name, getattr(of, name)) for name in other)
        raise InputError(
            f"{weights} is of another architecture: {found}; leave these options out with --weights"
        )
    if any(now > before for now, before in zip(size.expansions, of.expansions, strict=True)):
        raise InputError(
            f"{weights} has expansions {' '.join(map(str, of.expansions))}; --expansions can only "
            "be lower"
        )


def _optimizer(config: ColorTraining, network: ColorNet) -> torch.optim.AdamW:
    """Return AdamW; `factor` of each group multiplies the run's learning rate."""
    pretrained = config.architecture.trunk == "efficientnet-lite0"
    groups = [
        {
            "params": [weight],
            "weight_decay": config.weight_decay if weight.dim() > 1 else 0.0,
            "factor": config.trunk_rate if pretrained and name.startswith("trunk.") else 1.0,
        }
        for name, weight in network.named_parameters()
    ]
    return torch.optim.AdamW(groups, config.learning_rate)


def _build(config: ColorTraining, device: torch.device) -> ColorNet:
    return ColorNet(config.architecture).to(device)


def resume(config: ColorTraining, path: Path, device: torch.device) -> State:
    """Return the checkpoint's state, or that before the first epoch when there is no file.

    The number of epochs may differ from the checkpoint's: from here on the learning rate follows
    the new number. Raises InputError naming other options that differ, or when the file is not a
    whole checkpoint.
    """
    state = start(config, device)
    if not path.exists():
        return state
    stored = _load(path, device)
    before = replace(_config_dict(stored["config"]), epochs=config.epochs)
    refuse_other_config(path, _options(before), _options(config))
    if "optimizer" not in stored:
        raise InputError(
            f"{path} is one epoch's network: no run goes on from it; name another --output folder"
        )
    _fill(state.network, stored["network"], path)
    _fill(state.average, stored["average"], path)
    state.optimizer.load_state_dict(stored["optimizer"])
    return replace(state, epoch=stored["epoch"], step=stored["step"])


def save(config: ColorTraining, state: State, path: Path) -> None:
    """Write a checkpoint, and the epoch's average for `edge-tools color average`."""
    average = {
        "config": asdict(config),
        "labels": list(TERMS),
        "average": state.average.state_dict(),
        "epoch": state.epoch,
    }
    kept = path.parent / EPOCHS / f"{state.epoch:02}.pt"
    kept.parent.mkdir(exist_ok=True)
    tensor_file.write(average, kept)
    rest = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
    }
    tensor_file.write(average | rest, path)


def averaged(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the content of a checkpoint whose network is the mean of several checkpoints'.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima, 2018.
    Raises InputError where the networks are not of one architecture.
    """
    stored = [_load(path, torch.device("cpu")) for path in paths]
    found = [load_network(path) for path in paths]
    for path, (config, _) in zip(paths, found, strict=True):
        if config.architecture != found[0][0].architecture:
            raise InputError(f"{path} is of another architecture than {paths[0]}; leave it out")
    weights = [network.state_dict() for _, network in found]
    average = {
        name: torch.stack([other[name] for other in weights]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in weights[0].items()
    }
    kept = {key: stored[-1][key] for key in ("config", "labels", "epoch")}
    return kept | {"average": average, "of_epochs": [other["epoch"] for other in stored]}


def mean_of(path: Path) -> tuple[int, ...]:
    """Return the epochs of a mean that `averaged` made; empty for a run's own checkpoint."""
    return tuple(_load(path, torch.device("cpu")).get("of_epochs", ()))


def load_network(path: Path) -> tuple[ColorTraining, ColorNet]:
    """Return a checkpoint's config and averaged network, on the CPU and in inference mode.

    Raises InputError when the file is missing or no checkpoint of this module.
    """
    stored = _load(path, torch.device("cpu"))
    config = _config_dict(stored["config"])
    network = ColorNet(config.architecture)
    _fill(network, stored["average"], path)
    return config, network.eval()


def _fill(network: ColorNet, weights: Any, path: Path) -> None:
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError):
        raise tensor_file.foreign(path, COMMAND) from None


def parameter_count(network: nn.Module) -> int:
    """Return the number of trained weights and biases."""
    return sum(weight.numel() for weight in network.parameters())


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    stored = tensor_file.read(path, ("config", "labels", "average"), COMMAND, device)
    try:
        _config_dict(stored["config"])
    except (KeyError, TypeError):
        raise tensor_file.foreign(path, COMMAND) from None
    return stored


def _options(config: ColorTraining) -> dict[str, Any]:
    """Return the values that must be equal for a run to continue, by the options' names."""
    options = asdict(config) | asdict(config.architecture) | asdict(config.augmentation)
    options["white_balance"] = options.pop("balance")  # `--balance` is an option of `train detect`
    options["weights_sha256"] = options["weights_sha256"] or False  # no --weights
    for name in ("architecture", "augmentation", "commands"):
        del options[name]
    return options


def _config_dict(stored: dict[str, Any]) -> ColorTraining:
    """Return the config that `asdict` made the dictionary of."""
    architecture = ColorArchitecture(**stored["architecture"])
    augmentation = Augmentation(**stored["augmentation"])
    return ColorTraining(**stored | {"architecture": architecture, "augmentation": augmentation})
