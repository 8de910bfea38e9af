"""Argparse types for numbers and names: a wrong value is a usage error (exit code 2)."""

from __future__ import annotations

import argparse
import os.path
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge.errors import UsageError
from edge.manifest import is_file_name

LARGEST_SEED = 2**32 - 1  # limit of NumPy's global generator
LABEL_RULE = "names become MQTT topics, without + # / and of 64 letters at most"
NAME_RULE = "give letters, digits, -, _ and, but not first, dots"


def option(
    parser: argparse.ArgumentParser,
    flag: str,
    kind: Callable[[str], Any],
    default: object,
    text: str,
    **settings: Any,
) -> None:
    """Add an option whose help text ends with its default.

    kind, settings: the `type` and the other arguments of `add_argument`.
    """
    parser.add_argument(
        flag, type=kind, default=default, help=f"{text}; default: %(default)s", **settings
    )


def refuse_options(names: Sequence[str], beside: str) -> None:
    """Raise UsageError if there are options that mean nothing beside another one.

    names: of their attributes. beside: the other option, as typed.
    """
    if names:
        raise UsageError(f"{beside} takes no {_options(names)}")


def refuse_alone(args: argparse.Namespace, names: Sequence[str], needed: str) -> None:
    """Raise UsageError if options are given that mean nothing without another one.

    names, needed: attributes of `args`, None where an option is not given.
    """
    idle = [name for name in names if getattr(args, name) is not None]
    if idle and getattr(args, needed) is None:
        raise UsageError(f"{_options(idle)}: means nothing without {_options([needed])}")


def _options(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def count_or_zero(text: str) -> int:
    """Return a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def count_to(most: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from 1 to `most`."""

    def read(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return int(text)

    return read


def positive(text: str) -> float:
    """Return a number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def positive_or_zero(text: str) -> float:
    """Return a number of 0 or more."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def zero_or_below(text: str) -> float:
    """Return a number of 0 or less, including -inf."""
    value = _number(text)
    if not value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or less")
    return value


def seed(text: str) -> int:
    """Return a whole number that every random generator accepts as seed."""
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a seed; give one from 0 to {LARGEST_SEED}"
        )
    return int(text)


def percentile(text: str) -> float:
    """Return a number above 50, the median, and at most 100."""
    value = _number(text)
    if not 50 < value <= 100:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a percentile; give one above 50 and at most 100"
        )
    return value


def share_or_all(text: str) -> float:
    """Return a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; give one from 0 to 1")
    return value


def share(text: str) -> float:
    """Return a number from 0 up to, but not including, 1."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; give one from 0 to less than 1")
    return value


def model_version(text: str) -> str:
    """Return a model's version, which must be valid as a folder name in a registry."""
    if not is_file_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version; {NAME_RULE}, such as 1.0.0")
    return text


def model_folder(text: str) -> Path:
    """Return a folder whose name is also valid as a model name."""
    name = Path(os.path.realpath(text)).name
    if not is_file_name(name):
        raise argparse.ArgumentTypeError(f"{name!r} is not a model name; {NAME_RULE}")
    return Path(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
