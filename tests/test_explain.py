from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="explaining detections needs PyTorch: '.[tools]'")
pytest.importorskip("rich", reason="needs rich: pip install 'edge-camera[tools]'")

import torch

from edge.errors import InputError
from edge.values import Box
from tools import cli
from tools.architectures import yolox
from tools.explain import detect, heatmap
from tools.input_size import InputSize

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
DEMO = ROOT / "edge" / "assets" / "demo.jpg"


@pytest.mark.parametrize("strength", [0.1, 1])
def test_map_is_bright_where_a_cell_raises_the_score(strength: float) -> None:
    activations, gradients = np.zeros((2, 4, 4, 3), np.float32)
    activations[1, 2, 0] = 5
    activations[3, 3, 1] = 9  # lowers it
    activations[0, 0, 0] = 9  # strong, but the score does not read it there
    gradients[1, 2, 0], gradients[3, 3, 1] = 0.5, -0.5
    heat = heatmap.hires_cam([(activations, gradients * strength)])
    assert np.argwhere(heat > 0).tolist() == [[1, 2]]
    assert heat[1, 2] == 1


def test_map_without_evidence_is_dark() -> None:
    heat = heatmap.hires_cam([(np.ones((3, 3, 2), np.float32), -np.ones((3, 3, 2), np.float32))])
    assert not heat.any()


def test_coarser_layer_spreads_its_evidence_over_its_cells() -> None:
    fine, coarse = np.zeros((8, 8, 1), np.float32), np.zeros((4, 4, 1), np.float32)
    fine[0, 0], coarse[3, 3] = 2, 4  # the second on four fine cells
    heat = heatmap.hires_cam([(fine, np.ones_like(fine)), (coarse, np.ones_like(coarse))])
    assert heat.shape == (8, 8)
    assert heat[0, 0] == 1
    assert heat[7, 7] == pytest.approx(0.5)


def test_overlay_colors_the_high_side_and_keeps_the_picture() -> None:
    bgr = np.full((240, 320, 3), 100, np.uint8)
    heat = np.zeros((2, 2), np.float32)
    heat[:, 1] = 1
    drawn = heatmap.overlay(bgr, heat, "cat 0.90", Box(10, 10, 50, 50))
    assert drawn.shape == (240 + heatmap.BAR_PX, 320, 3)
    assert (drawn[120, 310] > drawn[120, 5]).all()  # brighter, whatever colors one can tell apart
    assert drawn[120, 5].max() < 100  # the dark side is dimmed
    for row, column in ((10, 30), (60, 30), (30, 10), (30, 60)):  # a point of each edge
        assert drawn[row, column].tolist() == [255, 255, 255]
    assert drawn[240:].max() > 200  # the caption
    assert (bgr == 100).all()


def test_small_picture_is_enlarged_under_its_caption() -> None:
    bgr = np.zeros((100, 80, 3), np.uint8)
    bgr[:, 40:] = 200
    drawn = heatmap.overlay(bgr, np.zeros((3, 3), np.float32), "cat 0.90")
    assert drawn.shape == (300 + heatmap.BAR_PX, 240, 3)
    assert drawn[150, 119].max() < 20
    assert drawn[150, 120].min() > 80


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "a.png"
    broken.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.png: cannot be read"):
        list(heatmap.pictures([tmp_path]))


def test_folder_gives_its_pictures_without_hidden_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "scan.tif"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "._scan.tif").write_bytes(b"of macOS")
    assert [path for path, _ in heatmap.pictures([tmp_path])] == [tmp_path / "scan.tif"]


def test_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "._a.png").write_bytes(b"of macOS")
    with pytest.raises(InputError, match=f"no picture in {tmp_path}"):
        list(heatmap.pictures([tmp_path]))


def test_heatmap_of_each_demo_person_is_on_the_person() -> None:
    bgr = np.asarray(cv2.imread(str(DEMO)), np.uint8)
    found = detect.Explainer(yolox.WEIGHTS, InputSize(416, 416), min_score=0.5).explain(bgr)
    assert len(found) >= 3
    assert {one.label for one in found} == {"person"}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert mean_inside(one, bgr.shape) > 10 * float(one.heat.mean())


@pytest.mark.parametrize("size", [InputSize(416, 256), InputSize(256, 416)], ids=str)
def test_boxes_and_maps_fit_the_picture_whatever_the_shape_of_the_input(size: InputSize) -> None:
    people = (Box(233, 142, 41, 138), Box(64, 38, 33, 92))  # the square input's
    bgr = np.asarray(cv2.imread(str(DEMO)), np.uint8)[:, 200:500]
    found = detect.Explainer(yolox.WEIGHTS, size, min_score=0.7).explain(bgr)
    for one, box in zip(found[:2], people, strict=True):
        assert one.box_px.iou(box) > 0.8
        rows, columns = one.heat.shape
        assert abs(rows - columns * bgr.shape[0] / bgr.shape[1]) <= 1


def mean_inside(one: detect.Explanation, shape: tuple[int, ...]) -> float:
    """Return the mean heat within a detection's box."""
    heat = cv2.resize(one.heat, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    left, top = int(one.box_px.x), int(one.box_px.y)
    right, bottom = int(left + one.box_px.width), int(top + one.box_px.height)
    return float(heat[top : bottom + 1, left : right + 1].mean())


def test_command_writes_a_picture_for_each_detection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(yolox, "load", lambda _: eager())
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype("u1")
    for folder in ("day", "night"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in" / folder / "noise.png"), noise)
    out = tmp_path / "out"
    command = ["explain", "detect", "--weights", "random", str(tmp_path / "in"), "--size", "64"]
    assert cli.main([*command, "--min-score", "0.2", "--output", str(out)]) == 0
    written = sorted(out.glob("*.jpg"))
    assert {path.name.partition("-")[0] for path in written} == {"day", "night"}
    assert len(capsys.readouterr().out.splitlines()) == len(written)


def test_results_of_one_name_are_numbered(tmp_path: Path) -> None:
    taken: set[Path] = set()
    found = [heatmap.unused(tmp_path / "x-1-red.jpg", taken).name for _ in range(3)]
    assert found == ["x-1-red.jpg", "x-1-red-2.jpg", "x-1-red-3.jpg"]


def eager() -> yolox.YoloxNano:
    """A random network that detects something everywhere."""
    net = yolox.YoloxNano().eval()
    with torch.no_grad():
        for head in net.heads:
            head.objectness.bias.fill_(3.0)  # type: ignore[union-attr,operator]
            head.class_logits.bias.fill_(0.0)  # type: ignore[union-attr,operator]
    return net


def test_explained_picture_is_named_after_its_folder_also_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert heatmap.file_name(Path("red/1.png"), "red") == "red-1-red.jpg"
    assert heatmap.file_name(Path("1.png"), "red") == f"{tmp_path.name}-1-red.jpg"
