"""Agreement of TFLite's kernels: required equality, and reports of differences."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("rich")

from edge.errors import ModelError
from models import detect_folder
from tools import dataset
from tools.dataset import Dataset
from tools.evaluate import kernels
from tools.evaluate.detections import KernelResult

HERE = [10.0, 10.0, 20.0, 20.0]


@pytest.fixture
def street(tmp_path: Path) -> Dataset:
    """One picture with a red cell: a person to the tiny detector."""
    bgr = np.zeros((64, 64, 3), np.uint8)
    bgr[16:32, 16:32] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "1.png"), bgr)
    path = tmp_path / "set.json"
    path.write_text(
        '{"images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}],'
        '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [16, 16, 16, 16]}],'
        '"categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]}'
    )
    return dataset.read(path, tmp_path)


def test_kernels_and_another_process_agree_on_a_model(tmp_path: Path, street: Dataset) -> None:
    found = kernels.agreement(detect_folder(tmp_path), street, python=Path(sys.executable), runs=3)
    assert len(found) == 3
    assert [one.ap50 for one in found] == [1.0, 1.0, 1.0]
    assert [one.faults for one in found] == [(), (), ()]
    assert found[0].relative_time == 1.0
    assert all(one.invoke_ms["p50"] > 0 for one in found)
    assert found[1].kernels != found[0].kernels or "builtin" in found[0].kernels
    assert found[2].kernels == found[0].kernels


def test_environment_that_does_not_start_is_named(tmp_path: Path, street: Dataset) -> None:
    with pytest.raises(ModelError, match="--tflite-runtime /no/python"):
        kernels._in_other_environment(Path("/no/python"), detect_folder(tmp_path), street, 0)


def test_failing_environment_is_reported_with_its_last_line(
    tmp_path: Path, street: Dataset
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2\necho no module named numpy >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(ModelError, match=f"--tflite-runtime {python}: no module named numpy$"):
        kernels._in_other_environment(python, detect_folder(tmp_path), street, 0)


def kernel_result(*golden: dict[str, Any]) -> KernelResult:
    return KernelResult("some", [], {"golden.jpg": list(golden)}, {})


def one(score: float, label: str = "person", box_px: list[float] = HERE) -> dict[str, Any]:
    return {"label": label, "score": score, "box_px": box_px}


def compared(own: KernelResult, first: KernelResult, ap50: float = 0.5) -> kernels.Agreement:
    return kernels._compare(own, first, ap50, 0.5, 0.1)


def test_relative_time_is_the_own_over_that_of_the_first() -> None:
    own, first = (replace(kernel_result(), invoke_ms={"p50": ms}) for ms in (3.0, 2.0))
    assert compared(own, first).relative_time == 1.5


def test_equal_objects_agree() -> None:
    found = compared(
        kernel_result(one(0.5)), kernel_result(one(0.55, box_px=[11.0, 10.0, 20.0, 20.0]))
    )
    assert found.faults == ()
    assert (found.objects, found.crossing, found.max_score_difference) == (1, 0, 0.05)
    assert found.min_iou == pytest.approx(0.905, abs=0.001)


def test_object_that_crosses_the_threshold_is_counted_but_not_a_fault() -> None:
    found = compared(kernel_result(one(0.29)), kernel_result(one(0.31)))
    assert (found.faults, found.crossing, found.objects) == ((), 1, 0)


@pytest.mark.parametrize(
    "other",
    [
        kernel_result(),
        kernel_result(one(0.19)),
        kernel_result(one(0.5, "car")),
        kernel_result(one(0.5, box_px=[50.0, 50.0, 9.0, 9.0])),
    ],
    ids=["missing", "too_weak", "other_label", "other_place"],
)
def test_difference_is_a_fault(other: KernelResult) -> None:
    (fault, *_) = compared(other, kernel_result(one(0.5))).faults
    assert "in one only" in fault


def test_score_equal_to_the_threshold_counts_as_above() -> None:
    found = compared(kernel_result(one(0.3)), kernel_result(one(0.31)))
    assert (found.faults, found.crossing, found.objects) == ((), 0, 1)


def test_counterpart_is_the_object_with_most_overlap() -> None:
    weak = one(0.25, box_px=[13.0, 10.0, 20.0, 20.0])
    for first in (kernel_result(weak, one(0.5)), kernel_result(one(0.5), weak)):
        found = compared(kernel_result(one(0.5)), first)
        assert (found.crossing, found.max_score_difference, found.min_iou) == (0, 0.0, 1.0)


def test_the_table_names_kernels_and_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    first, other = kernel_result(one(0.5)), kernel_result(one(0.5, "car"))
    kernels.show("street-net", [compared(first, first), compared(other, first, ap50=0.51)])
    shown = capsys.readouterr().out
    for text in (
        "street-net, against some",
        "  some: golden.jpg: car 0.50 in one only\n",
        "  some: AP50 0.5100 against 0.5000: more than 0.003 apart\n",
    ):
        assert text in shown
    verdict = next(line for line in shown.splitlines() if "verdict" in line)
    assert verdict.index("agrees") < verdict.index("differs")


def test_every_differing_object_is_reported() -> None:
    found = compared(
        kernel_result(one(0.5, "car")), kernel_result(one(0.6, "bus"), one(0.7, "dog"))
    )
    assert found.faults == tuple(
        f"golden.jpg: {text} in one only" for text in ("car 0.50", "bus 0.60", "dog 0.70")
    )
    assert (found.max_score_difference, found.min_iou) == (0.0, 1.0)


def test_accuracy_difference_above_the_limit_is_a_fault() -> None:
    assert compared(kernel_result(), kernel_result(), ap50=0.5029).faults == ()
    assert compared(kernel_result(), kernel_result(), ap50=0.496).faults
    (fault,) = compared(kernel_result(), kernel_result(), ap50=0.504).faults
    assert "AP50 0.5040 against 0.5000" in fault
