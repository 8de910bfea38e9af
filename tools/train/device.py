"""The PyTorch device of a training run, checked when the command line is parsed (exit code 2)."""

from __future__ import annotations

import argparse

import torch


def usable_device(text: str) -> torch.device:
    """Return a device on which PyTorch can compute here; ArgumentTypeError if it cannot."""
    try:
        torch.zeros(1, device=text).tolist()
    except (RuntimeError, AssertionError):  # AssertionError: PyTorch was built without it
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a device that PyTorch can use here; use cpu"
        ) from None
    return torch.device(text)
