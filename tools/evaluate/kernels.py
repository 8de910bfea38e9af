"""Checks that TFLite's kernels agree on a model: XNNPACK, litert's built-in ones, tflite-runtime.

They round differently, so outputs are not identical. Required are AP50 within .003 and the same
objects above score .3 in the golden pictures. Two detections are the same object if their labels
are equal and their IoU is at least .5. The counterpart's score may be below .3 by up to the golden
tolerance (.31 here, .29 there); the number of such objects is reported.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge import manifest
from edge.errors import ModelError
from edge.values import Box
from tools import child
from tools.console import plain_console
from tools.dataset import Dataset
from tools.evaluate import detections
from tools.evaluate.accuracy import score
from tools.evaluate.detections import KernelResult

MAX_AP50_DIFFERENCE = 0.003
SHOWN_SCORE = 0.3
MIN_IOU = 0.5
TOLERANCE = 0.12  # of scores, for a manifest without a golden picture
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 3600


@dataclass(frozen=True)
class Agreement:
    """Comparison of one family of kernels with the first.

    objects: number above score .3 in the golden pictures. crossing: number of pairs with only one
    score above .3. faults: differences beyond the tolerance; empty if the kernels agree.
    max_score_difference, min_iou: over all pairs. relative_time: ratio of p50 to the first's.
    """

    kernels: str
    ap50: float
    objects: int
    crossing: int
    faults: tuple[str, ...]
    max_score_difference: float
    min_iou: float
    invoke_ms: dict[str, float]
    relative_time: float


def agreement(
    folder: Path, data: Dataset, *, python: Path | None = None, runs: int = 30
) -> list[Agreement]:
    """Compare a model's results with XNNPACK, built-in kernels and, if given, tflite-runtime.

    python: interpreter of an environment with tflite-runtime, or None. runs: timed invokes.
    Raises ModelError when a runtime refuses the model or the other environment fails.
    """
    results = [
        detections.measure_kernels(folder, data, xnnpack=flag, runs=runs) for flag in (True, False)
    ]
    if python is not None:
        results.append(_in_other_environment(python, folder, data, runs))
    golden = manifest.read(folder).golden
    tolerance = golden.tolerance if golden else TOLERANCE
    ap50s = [score(data, one.results).ap50 for one in results]
    return [
        _compare(one, results[0], ap50s[place], ap50s[0], tolerance)
        for place, one in enumerate(results)
    ]


def _in_other_environment(python: Path, folder: Path, data: Dataset, runs: int) -> KernelResult:
    """Return the result of the runtime in another Python environment."""
    with tempfile.TemporaryDirectory() as parent:
        output, annotations = Path(parent) / "look.json", Path(parent) / "set.json"
        annotations.write_text(json.dumps(_document(data)))
        command = [str(python), "-m", "tools.evaluate.detections", str(folder.resolve())]
        command += ["--annotations", str(annotations), "--images", "/"]
        command += ["--output", str(output), "--runs", str(runs)]
        name = f"--tflite-runtime {python}"
        child.output_of(command, name, timeout_s=TIMEOUT_S, folder=ROOT, error=ModelError)
        return KernelResult(**json.loads(output.read_text()))


def _document(data: Dataset) -> dict[str, Any]:
    """Return a set's pictures as COCO JSON with absolute paths and without annotations."""
    images = [
        {
            "id": picture.image_id,
            "file_name": str(picture.path.resolve()),
            "width": picture.width,
            "height": picture.height,
        }
        for picture in data.pictures
    ]
    categories = [{"id": number, "name": name} for number, name in data.labels.items()]
    return {"images": images, "annotations": [], "categories": categories}


def _compare(
    own: KernelResult, first: KernelResult, ap50: float, first_ap50: float, tolerance: float
) -> Agreement:
    faults = list(_ap50_fault(ap50, first_ap50))
    differences, overlaps, crossing = [0.0], [1.0], 0
    for picture, found in own.golden.items():
        for mine, other in ((found, first.golden[picture]), (first.golden[picture], found)):
            for one in _above_threshold(mine):
                match = _counterpart(one, other, SHOWN_SCORE - tolerance)
                if match is None:
                    faults.append(f"{picture}: {one['label']} {one['score']:.2f} in one only")
                    continue
                crossing += match["score"] < SHOWN_SCORE
                differences.append(abs(one["score"] - match["score"]))
                overlaps.append(_iou(one, match))
    return Agreement(
        kernels=own.kernels,
        ap50=ap50,
        objects=sum(len(_above_threshold(found)) for found in own.golden.values()),
        crossing=crossing,
        faults=tuple(faults),
        max_score_difference=round(max(differences), 3),
        min_iou=round(min(overlaps), 3),
        invoke_ms=own.invoke_ms,
        relative_time=_relative(own, first),
    )


def _ap50_fault(ap50: float, first: float) -> Iterator[str]:
    if abs(ap50 - first) > MAX_AP50_DIFFERENCE:
        yield f"AP50 {ap50:.4f} against {first:.4f}: more than {MAX_AP50_DIFFERENCE} apart"


def _relative(own: KernelResult, first: KernelResult) -> float:
    return round(own.invoke_ms["p50"] / first.invoke_ms["p50"], 2) if own.invoke_ms else 1.0


def _above_threshold(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["score"] >= SHOWN_SCORE]


def _counterpart(
    one: dict[str, Any], others: Sequence[dict[str, Any]], least: float
) -> dict[str, Any] | None:
    same = [
        other
        for other in others
        if other["label"] == one["label"]
        and other["score"] >= least
        and _iou(one, other) >= MIN_IOU
    ]
    return max(same, key=lambda other: _iou(one, other), default=None)


def _iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    return Box(*one["box_px"]).iou(Box(*other["box_px"]))


def show(name: str, found: Sequence[Agreement]) -> None:
    """Print a model's table, one column per family of kernels, and every fault."""
    from rich.table import Table

    table = Table(title=f"{name}, against {found[0].kernels}")
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.kernels, overflow="fold")
    for row, cells in _rows(found).items():
        table.add_row(row, *cells)
    console = plain_console()
    console.print(table)
    for one in found:
        for fault in one.faults:
            console.print(f"  {one.kernels}: {fault}", highlight=False)


def _rows(found: Sequence[Agreement]) -> dict[str, list[str]]:
    return {
        "AP50": [f"{one.ap50:.4f}" for one in found],
        f"golden objects from {SHOWN_SCORE}": [str(one.objects) for one in found],
        f"on the other side of {SHOWN_SCORE}": [str(one.crossing) for one in found],
        "largest score difference": [f"{one.max_score_difference:.3f}" for one in found],
        "least IoU": [f"{one.min_iou:.3f}" for one in found],
        "invoke p50, ms": [f"{one.invoke_ms.get('p50', math.nan):.2f}" for one in found],
        "time, relative": [f"{one.relative_time:.2f}" for one in found],
        "verdict": ["differs" if one.faults else "agrees" for one in found],
    }


def documents(name: str, found: Sequence[Agreement]) -> list[dict[str, Any]]:
    """Return a model's figures as JSON types."""
    return [{"model": name, **asdict(one)} for one in found]
