"""Numbers on the command line, checked where they are read: a wrong one is wrong usage, exit 2."""

from __future__ import annotations

import argparse

LARGEST_SEED = 2**32 - 1  # that NumPy's global generator takes


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def count_or_none(text: str) -> int:
    """Return a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def positive(text: str) -> float:
    """Return a number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def positive_or_none(text: str) -> float:
    """Return a number of 0 or more."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return value


def seed(text: str) -> int:
    """Return a whole number that every generator takes."""
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; give one from 0 to {LARGEST_SEED}")
    return int(text)


def percentile(text: str) -> float:
    """Return a number above 50, the median, and at most 100."""
    value = _number(text)
    if not 50 < value <= 100:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no percentile of a range; give one above 50, at most 100"
        )
    return value


def share_or_all(text: str) -> float:
    """Return a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; give one from 0 to 1")
    return value


def share(text: str) -> float:
    """Return a number from 0 up to, but not including, 1."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; give one from 0 to less than 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
