from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")


from color_crops import CPU, SMALL, patches
from edge.color import TERMS
from tools.color.data import dataset
from tools.train import color as training
from tools.train import color_state as stored
from tools.train import color_teacher


def test_teachers_are_mixed_into_labels_and_alone_label_other_boxes(tmp_path: Path) -> None:
    training.train(SMALL, patches(), {}, tmp_path / "teacher", CPU)
    folder = tmp_path / "detection"
    (folder / "train").mkdir(parents=True)
    picture = np.full((60, 120, 3), 30, np.uint8)
    picture[:, :60, 2] = picture[:, 60:, 1] = 200
    cv2.imwrite(str(folder / "train" / "a.png"), picture)
    boxes = [[0, 0, 60, 60], [60, 0, 60, 60], [3, 3, 4, 4], [60, 0, 60, 60]]
    content = {
        "images": [{"id": 1, "file_name": "train/a.png"}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": box, "iscrowd": number == 3}
            for number, box in enumerate(boxes)
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))
    shares = tuple(float(term == "blue") for term in TERMS)
    red = dataset.ColorItem(
        folder / "train" / "a.png", (0, 0, 60, 60), "more", "blue", shares, 1.0, "car"
    )
    teachers = [tmp_path / "teacher" / stored.CHECKPOINT]
    labelled, other = color_teacher.taught([red], tmp_path, teachers, 0.5, tmp_path / "cache")
    assert labelled.shares[TERMS.index("blue")] == pytest.approx(0.5, abs=0.1)
    assert labelled.shares[TERMS.index("red")] == pytest.approx(0.5, abs=0.1)
    assert (other.box_px, other.object_class, other.label) == ((60, 0, 60, 60), "car", None)
    assert other.shares[TERMS.index("green")] > 0.8
    assert sum(other.shares) == pytest.approx(1)


def test_labelled_crop_uses_only_teachers_not_trained_on_it(
    tmp_path: Path,
) -> None:
    halves = [replace(SMALL, hold_out=0.5, hold_from=start) for start in (0.0, 0.5)]
    checkpoints = {}
    for number, config in enumerate(halves):
        shown = patches()
        seen = replace(shown, shares=np.roll(shown.shares, number, 1))  # each learns other names
        training.train(config, seen, {}, tmp_path / str(number), CPU)
        checkpoints[config.hold_from] = tmp_path / str(number) / stored.CHECKPOINT
    items = []
    for number in range(8):
        file = tmp_path / f"{number}.png"
        cv2.imwrite(str(file), np.full((32, 32, 3), (30, 30, 200), np.uint8))
        items.append(dataset.ColorItem(file, None, "more", "red", (1.0,) * 11, 1.0))
    first = [dataset.is_held(item, 0.5) for item in items]
    assert 0 < sum(first) < len(items)
    both = color_teacher.mean_opinion(items, list(checkpoints.values()), tmp_path / "cache")
    for start, is_asked in ((0.0, True), (0.5, False)):
        alone = color_teacher.mean_opinion(items, [checkpoints[start]], tmp_path / "cache")
        chosen = np.array(first) == is_asked
        assert both[chosen] == pytest.approx(alone[chosen])
        assert np.abs(both - alone)[~chosen].max() > 0.3
    unlabelled = [replace(items[0], weight=0.0)]
    one, other, mean = (
        color_teacher.mean_opinion(unlabelled, paths, tmp_path / "cache")
        for paths in ([checkpoints[0.0]], [checkpoints[0.5]], list(checkpoints.values()))
    )
    assert mean == pytest.approx((one + other) / 2)
