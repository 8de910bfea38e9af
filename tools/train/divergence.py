"""Trainings that diverge end with an error instead of a network that answers nothing."""

from __future__ import annotations

import math

from edge.errors import EdgeError


def refuse_divergence(loss: float, when: str) -> None:
    """Raise EdgeError when the mean loss is not finite. when: text for the message."""
    if not math.isfinite(loss):
        raise EdgeError(
            f"{when} the loss became {loss}; give a lower --learning-rate and another --output"
        )
