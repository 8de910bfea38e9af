"""What trainings run on, checked where the command line is read: a wrong one is wrong usage."""

from __future__ import annotations

import argparse

import torch


def usable_device(text: str) -> torch.device:
    """Return a device on which PyTorch can compute here; ArgumentTypeError for another."""
    try:
        torch.zeros(1, device=text).tolist()
    except (RuntimeError, AssertionError):  # the latter of a PyTorch made without it
        raise argparse.ArgumentTypeError(
            f"{text!r} is no device that PyTorch can use here; cpu always is"
        ) from None
    return torch.device(text)
