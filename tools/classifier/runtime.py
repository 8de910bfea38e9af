"""Imports Keras on TensorFlow: lazily, with a fixed number of threads, without start messages."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge.errors import ConfigError
from edge.quiet import held_stderr


@functools.cache
def load() -> tuple[Any, Any]:
    """Return the modules (keras, tensorflow), on one CPU thread unless `use_threads` sets more.

    Raises ConfigError when they are not installed.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # measurements are on the CPU
    try:
        with quiet():
            import keras
            import tensorflow
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"classifiers need {error.name}: pip install 'edge-camera[keras]'"
        ) from None
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # hints about retracing
    logging.getLogger("absl").setLevel(logging.ERROR)
    _set_threads(tensorflow, 1)
    return keras, tensorflow


def use_threads(count: int) -> None:
    """Set TensorFlow's CPU threads; only before its first operation, or to the same number."""
    _set_threads(load()[1], count)


def _set_threads(tensorflow: Any, count: int) -> None:
    tensorflow.config.threading.set_intra_op_parallelism_threads(count)
    tensorflow.config.threading.set_inter_op_parallelism_threads(count)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and standard error, including C++'s; print them if the block fails."""
    is_failed = False
    with held_stderr(lambda _line: is_failed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ModuleNotFoundError:
            raise
        except Exception:
            is_failed = True
            raise
