"""Reads and writes checkpoints: written atomically, read without executing pickled code."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from edge import durable
from edge.errors import InputError

# What `torch.load` and access to its result raise for a file with other content.
# OSError: PyTorch's failed seek in a truncated file.
UNREADABLE = (
    OSError, LookupError, TypeError, ValueError, RuntimeError, EOFError, UnpicklingError,
    AttributeError,
)  # fmt: skip


def write(content: dict[str, Any], path: Path) -> None:
    """Write a file atomically: a kill or a full disk (OSError) leaves the previous one intact."""
    made = io.BytesIO()  # on a full disk, torch.save to a file hides the OSError
    torch.save(content, made)
    durable.replace(path, made.getbuffer())


def read(
    path: Path, keys: Collection[str], command: str, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Return the content of a file written by a command of `edge-tools`.

    keys: required keys. command: for the error message.
    Raises InputError when the file cannot be read or has other content.
    """
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; make one with `edge-tools {command}`") from None
    except IsADirectoryError:
        raise a_folder(path) from None
    except PermissionError as error:
        raise InputError(f"{path}: {error.strerror}; let this user read it") from None
    except UNREADABLE:
        stored = None
    if not isinstance(stored, dict) or not stored.keys() >= set(keys):
        raise foreign(path, command)
    return stored


def a_folder(path: Path) -> InputError:
    """Return the error for a folder named instead of a checkpoint in it."""
    inside = next(iter(sorted(path.glob("*.pt"))), None)
    such = f", such as {inside}" if inside else ""
    return InputError(f"{path} is a folder; name a file in it{such}")


def foreign(path: Path, command: str) -> InputError:
    """Return the error for a file that the command of `edge-tools` did not write."""
    return InputError(
        f"{path} is not a checkpoint of `edge-tools {command}`; name one that it wrote"
    )
