"""Distillation loss between the outputs of two YOLOX networks, student and teacher.

Box and class errors of a cell are weighted by the teacher's objectness, so background cells
contribute only to the objectness loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

BOX_WEIGHT = 2.0  # an error of a tenth of the box's side costs as much as one of 0.2 nats
_MAX_LOG_SIZE = 6.0  # in strides; far beyond any picture, keeps the division below finite


def loss(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], strides: tuple[int, ...]
) -> Tensor:
    """Return the loss divided by the sum of the teacher's objectness, float32 scalar.

    student, teacher: `box_<s>`, `objectness_<s>`, `class_<s>`, float32 (n, channels, h, w) each.
    """
    total = torch.zeros((), device=student[f"box_{strides[0]}"].device)
    objects = torch.full_like(total, 1.0)
    for stride in strides:
        weight = torch.sigmoid(teacher[f"objectness_{stride}"])
        objects = objects + weight.sum()
        total = total + functional.binary_cross_entropy_with_logits(
            student[f"objectness_{stride}"], weight, reduction="sum"
        )
        classes = functional.binary_cross_entropy_with_logits(
            student[f"class_{stride}"], torch.sigmoid(teacher[f"class_{stride}"]), reduction="none"
        )
        total = total + (classes * weight).sum()
        boxes = _box_error(student[f"box_{stride}"], teacher[f"box_{stride}"])
        total = total + BOX_WEIGHT * (boxes * weight).sum()
    return total / objects


def mirror_averaged(teacher: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the teacher's outputs averaged over the images, (n, 3, h, w), and their mirror images.

    A box's x is relative to the left side of its cell; mirrored, it is relative to the right side.
    """
    plain, mirrored = teacher(images), teacher(images.flip(3))
    mean: dict[str, Tensor] = {}
    for name, value in mirrored.items():
        back = value.flip(3)
        if name.startswith("box_"):
            back = torch.cat([1 - back[:, :1], back[:, 1:]], 1)
        mean[name] = (plain[name] + back) / 2
    return mean


def own_classes_only(outputs: Mapping[str, Tensor], strides: tuple[int, ...]) -> dict[str, Tensor]:
    """Return outputs whose objectness means "an object of one of the network's own classes".

    The published network's objectness is also high on objects of the COCO classes that were
    removed, such as chairs and kites, which contradicts the labels. Scores (objectness x class)
    stay the same.
    """
    changed = dict(outputs)
    for stride in strides:
        classes = torch.sigmoid(outputs[f"class_{stride}"])
        best = classes.amax(1, keepdim=True).clamp(1e-3, 1 - 1e-3)
        objectness = torch.sigmoid(outputs[f"objectness_{stride}"]) * best
        changed[f"objectness_{stride}"] = torch.logit(objectness, 1e-6)
        changed[f"class_{stride}"] = torch.logit(classes / best, 1e-4)
    return changed


def _box_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return (n, 1, h, w): offset relative to the teacher's box, plus difference of log sizes."""
    difference = (student - teacher).abs()
    sizes = teacher[:, 2:].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
    return (difference[:, :2] / sizes + difference[:, 2:]).sum(1, keepdim=True)
