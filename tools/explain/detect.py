"""Heat maps of detections (HiResCAM): `edge-tools explain detect PICTURE…`.

HiResCAM of a detection's class logit at its cell, with respect to the backbone's three feature
maps, in the float network: an int8 file has no gradients. One picture for each detection.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge import picture_file
from edge.detector import Candidates, suppress
from edge.values import Box, Image
from tools import arguments
from tools.architectures import yolox
from tools.arguments import option
from tools.explain import heatmap
from tools.explain.heatmap import Floats
from tools.input_size import InputSize
from tools.quantize.ranges import PIXELS, batches
from tools.quantize_detect import NMS_IOU, letterboxed
from tools.train.detect_state import add_weights

EXAMPLES = """\
example:
  edge-tools explain detect --weights ../shared/weights/yolox_nano.onnx street.jpg --min-score 0.5
"""


@dataclass(frozen=True)
class Cell:
    """A detection and its position in the network's outputs."""

    stride: int
    row: int
    column: int
    label: int
    score: float
    box_px: Box


@dataclass(frozen=True)
class Explanation:
    """A detection and its heat map over the whole letterboxed input, 0..1."""

    label: str
    score: float
    box_px: Box
    heat: Floats


class Explainer:
    """Explains the detections of YOLOX-Nano in float at a given input size."""

    def __init__(self, weights: Path, size: InputSize, *, min_score: float) -> None:
        self._net = yolox.load(weights)
        self._size = size
        self._min_score = min_score

    def explain(self, bgr: Image) -> list[Explanation]:
        """Return the detections of a picture, uint8 (h, w, 3), best first, each with its map."""
        (batch,) = batches([letterboxed(bgr, self._size)], PIXELS, 1)
        maps = [value.detach().requires_grad_() for value in self._net.backbone(batch)]
        outputs = self._heads(maps)
        ratio = self._ratio(bgr)
        return [
            Explanation(
                label=self._net.labels[cell.label],
                score=cell.score,
                box_px=_scaled(cell.box_px, ratio, bgr),
                heat=self._visible(_heat(cell, maps, outputs), bgr),
            )
            for cell in self._cells(outputs)
        ]

    def _heads(self, maps: list[Tensor]) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """Return box, objectness and class logits of each stride."""
        heads = zip(yolox.STRIDES, self._net.heads, self._net.neck(*maps), strict=True)
        return {stride: head(value) for stride, head, value in heads}

    def _cells(self, outputs: dict[int, tuple[Tensor, Tensor, Tensor]]) -> list[Cell]:
        """Return the cells that are detections, best first."""
        found = [cell for stride in outputs for cell in self._candidates(stride, outputs[stride])]
        corners = [cell.box_px.corners for cell in found]
        candidates = Candidates(
            np.array([cell.score for cell in found], np.float32),
            np.array([cell.label for cell in found], np.intp),
            np.array(corners, np.float32).reshape(-1, 4),
        )
        objects, cells = suppress(candidates, NMS_IOU, self._min_score)
        return [
            replace(found[index], score=score, box_px=Box.of_corners(*corners))
            for index, score, corners in zip(
                cells, objects.scores.tolist(), objects.corners.tolist(), strict=True
            )
        ]

    def _candidates(self, stride: int, parts: tuple[Tensor, Tensor, Tensor]) -> list[Cell]:
        """Return the cells of a stride that reach the score, boxes in input pixels."""
        box, objectness, logits = (part.detach()[0] for part in parts)
        scores = objectness.sigmoid() * logits.sigmoid()
        found = []
        for label, row, column in (scores >= self._min_score).nonzero().tolist():
            x, y, log_width, log_height = box[:, row, column].tolist()
            width, height = np.exp(log_width) * stride, np.exp(log_height) * stride
            corner_x = (x + column) * stride - width / 2
            corner_y = (y + row) * stride - height / 2
            place = Box(corner_x, corner_y, width, height)
            found.append(Cell(stride, row, column, label, float(scores[label, row, column]), place))
        return found

    def _ratio(self, bgr: Image) -> float:
        """Return the number of picture pixels per input pixel, along a side."""
        height, width = bgr.shape[:2]
        return max(float(width) / self._size.width, float(height) / self._size.height)

    def _visible(self, heat: Floats, bgr: Image) -> Floats:
        """Return the part of a map that covers the picture, without the letterbox padding."""
        filled = 1 / self._ratio(bgr)
        rows = max(1, round(heat.shape[0] * bgr.shape[0] * filled / self._size.height))
        columns = max(1, round(heat.shape[1] * bgr.shape[1] * filled / self._size.width))
        return np.ascontiguousarray(heat[:rows, :columns])


def _heat(
    cell: Cell, maps: list[Tensor], outputs: dict[int, tuple[Tensor, Tensor, Tensor]]
) -> Floats:
    """Return the map of a cell's class logit, as fine as the finest of the feature maps."""
    logit = outputs[cell.stride][2][0, cell.label, cell.row, cell.column]
    gradients = torch.autograd.grad(logit, maps, retain_graph=True)
    return heatmap.hires_cam(
        [(_last(value), _last(one)) for value, one in zip(maps, gradients, strict=True)]
    )


def _last(value: Tensor) -> Floats:
    """Return a batch's only feature map, (height, width, channel)."""
    return value.detach()[0].permute(1, 2, 0).numpy()


def _scaled(box_px: Box, ratio: float, bgr: Image) -> Box:
    """Convert a box from input pixels to picture pixels, clipped to the picture."""
    height, width = bgr.shape[:2]
    return Box(*(side * ratio for side in box_px)).clipped((width, height))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pictures", type=Path, nargs="+", help="pictures or folders")
    add_weights(parser)
    option(parser, "--size", InputSize.parse, InputSize(416, 416), "of the input")
    option(
        parser, "--min-score", arguments.share_or_all, 0.5, "of the detections that are explained"
    )
    option(parser, "--output", Path, Path("explained"), "folder")
    option(parser, "--threads", arguments.count, 1, "CPU threads of PyTorch")


def run(args: argparse.Namespace) -> int:
    """Write one picture with its heat map per detection."""
    torch.set_num_threads(args.threads)
    explainer = Explainer(args.weights, args.size, min_score=args.min_score)
    taken: set[Path] = set()
    for path, bgr in heatmap.pictures(args.pictures):
        found = explainer.explain(bgr)
        if not found:
            print(f"{path}: nothing above {args.min_score:g}")
        for number, one in enumerate(found, 1):
            name = heatmap.file_name(path, f"{number}-{one.label}")
            target = heatmap.unused(args.output / name, taken)
            caption = f"{one.label} {one.score:.2f}"
            picture_file.write(target, heatmap.overlay(bgr, one.heat, caption, one.box_px))
            print(f"{target}: {caption}")
    return 0
