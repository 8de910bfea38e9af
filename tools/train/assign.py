"""Loss of a detector against labels, with SimOTA label assignment.

Method: SimOTA (Ge et al. 2021, "YOLOX", section 2.3): each object is assigned the cells near its
center with the least cost (class error + 3 x negative log IoU), as many as the sum of the ten best
IoUs. Assigned cells learn box (1 - IoU^2, weight 5), class (target scaled by IoU) and objectness;
all others learn objectness 0, except inside ignored boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CENTER_RADIUS = 1.5  # in cells
CANDIDATES = 10
BOX_WEIGHT = 5.0
IOU_COST = 3.0
_FAR = 1e6
_MAX_LOG_SIZE = 6.0


@dataclass(frozen=True)
class Truth:
    """Ground truth of one picture of a batch.

    boxes: float32 (n, 4) corners in input pixels. labels: int64 (n,).
    ignored: float32 (m, 4); cells with their center inside do not count as background.
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


@dataclass(frozen=True)
class Cells:
    """Predictions of all cells of one picture, float32.

    corners: (a, 4) and centers: (a, 2) in pixels. objectness: (a,) and classes: (a, c), logits.
    strides: (a,) in pixels. For a batch, all but centers and strides have a leading batch axis.
    """

    corners: Tensor
    objectness: Tensor
    classes: Tensor
    centers: Tensor
    strides: Tensor


def loss(
    outputs: Mapping[str, Tensor], truths: Sequence[Truth], strides: tuple[int, ...]
) -> Tensor:
    """Return the loss per assigned cell, float32 scalar.

    outputs: `box_<s>`, `objectness_<s>`, `class_<s>`, float32 (n, channels, h, w) each.
    truths: one per picture.
    """
    whole = decode_cells(outputs, strides)
    total = whole.corners.sum() * 0.0
    chosen = 0
    for index, truth in enumerate(truths):
        cells = Cells(
            whole.corners[index],
            whole.objectness[index],
            whole.classes[index],
            whole.centers,
            whole.strides,
        )
        value, count = _picture_loss(cells, truth)
        total = total + value
        chosen += count
    return total / max(chosen, 1)


def assign(cells: Cells, truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    """Return indices of the assigned cells (k,), of the object of each (k,), and their IoU (k,)."""
    middles = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
    distance = (cells.centers[None] - middles[:, None]).abs().amax(2)
    near = distance < CENTER_RADIUS * cells.strides[None]
    (candidates,) = near.any(0).nonzero(as_tuple=True)
    near = near[:, candidates]
    overlap = iou(truth.boxes[:, None], cells.corners[candidates][None])
    cost = _class_cost(cells, candidates, truth.labels) - IOU_COST * torch.log(overlap + 1e-8)
    cost = cost + _FAR * ~near
    matched = _dynamic_k_match(cost, overlap)
    (columns,) = matched.any(0).nonzero(as_tuple=True)
    objects = matched[:, columns].float().argmax(0)
    return candidates[columns], objects, overlap[objects, columns]


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union of broadcast corner boxes (..., 4)."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1)
    return shared / (areas - shared + 1e-6)


def decode_cells(outputs: Mapping[str, Tensor], strides: tuple[int, ...]) -> Cells:
    """Return the decoded cells of a batch: (n, a, ...), except centers and strides."""
    corners, objectness, classes, centers, sides = [], [], [], [], []
    for stride in strides:
        box = outputs[f"box_{stride}"].flatten(2).transpose(1, 2)
        height, width = outputs[f"box_{stride}"].shape[2:]
        rows, columns = torch.meshgrid(
            torch.arange(height, device=box.device),
            torch.arange(width, device=box.device),
            indexing="ij",
        )
        grid = torch.stack([columns, rows], 2).reshape(-1, 2).float()
        middle = (box[..., :2] + grid) * stride
        half = box[..., 2:].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp() * (stride / 2)
        corners.append(torch.cat([middle - half, middle + half], 2))
        objectness.append(outputs[f"objectness_{stride}"].flatten(1))
        classes.append(outputs[f"class_{stride}"].flatten(2).transpose(1, 2))
        centers.append((grid + 0.5) * stride)
        sides.append(torch.full((len(grid),), float(stride), device=box.device))
    return Cells(
        torch.cat(corners, 1),
        torch.cat(objectness, 1),
        torch.cat(classes, 1),
        torch.cat(centers),
        torch.cat(sides),
    )


def _picture_loss(cells: Cells, truth: Truth) -> tuple[Tensor, int]:
    wanted = torch.zeros_like(cells.objectness)
    weight = 1.0 - _inside(cells.centers, truth.ignored).float()
    value = cells.corners.sum() * 0.0
    count = 0
    if len(truth.boxes):
        with torch.no_grad():
            chosen, objects, overlap = assign(cells, truth)
        count = len(chosen)
        wanted[chosen] = 1.0
        weight[chosen] = 1.0
        found = iou(cells.corners[chosen], truth.boxes[objects])
        classes = functional.one_hot(truth.labels[objects], cells.classes.shape[1]).float()
        value = BOX_WEIGHT * (1 - found.square()).sum()
        value = value + functional.binary_cross_entropy_with_logits(
            cells.classes[chosen], classes * overlap[:, None], reduction="sum"
        )
    background = functional.binary_cross_entropy_with_logits(
        cells.objectness, wanted, reduction="none"
    )
    return value + (background * weight).sum(), count


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points (a, 2) lie in any of the boxes (m, 4)."""
    if not len(boxes):
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    after = (points[:, None] > boxes[None, :, :2]).all(2)
    before = (points[:, None] < boxes[None, :, 2:]).all(2)
    return (after & before).any(1)


def _class_cost(cells: Cells, candidates: Tensor, labels: Tensor) -> Tensor:
    """Return (objects, candidates): cross entropy of sqrt(class x objectness) for each label."""
    score = cells.classes[candidates].sigmoid() * cells.objectness[candidates].sigmoid()[:, None]
    score = score.sqrt().clamp(1e-7, 1 - 1e-7)
    absent = -torch.log1p(-score)
    present = -torch.log(score) - absent
    return absent.sum(1)[None] + present[:, labels].T


def _dynamic_k_match(cost: Tensor, overlap: Tensor) -> Tensor:
    """Return the assignment, bool (objects, candidates); each cell has at most one object."""
    count = min(CANDIDATES, overlap.shape[1])
    wanted = overlap.topk(count, 1).values.sum(1).int().clamp(min=1)
    matched = torch.zeros_like(cost, dtype=torch.bool)
    for index, number in enumerate(wanted.tolist()):
        if cost.shape[1]:
            matched[index, cost[index].topk(min(number, cost.shape[1]), largest=False).indices] = (
                True
            )
    matched &= cost < _FAR / 2
    contested = matched.sum(0) > 1
    if contested.any():
        best = cost[:, contested].argmin(0)
        matched[:, contested] = functional.one_hot(best, len(cost)).T.bool()
    return matched
