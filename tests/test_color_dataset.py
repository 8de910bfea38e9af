from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")


from color_crops import write_scenes
from edge.color import TERMS
from edge.errors import InputError
from tools.color.data import dataset


def test_two_labellers_become_one_soft_target(tmp_path: Path) -> None:
    write_scenes(
        tmp_path,
        [
            {"label_1": "red", "label_2": "red", "agreed": "red"},
            {"label_1": "red", "label_2": "blue", "sure_2": False, "agreed": None},
            {"label_1": "black", "label_2": "unclear", "agreed": None},
            {"label_1": "unclear", "label_2": "unclear", "agreed": "unclear"},
        ],
    )
    same, differ, half, unclear = dataset.read_set(tmp_path, "val")
    assert (same.label, same.weight, same.shares[TERMS.index("red")]) == ("red", 1.0, 1.0)
    assert differ.label is None
    assert differ.shares[TERMS.index("red")] == pytest.approx(2 / 3)
    assert differ.shares[TERMS.index("blue")] == pytest.approx(1 / 3)
    assert differ.weight < 1
    assert half.weight < differ.weight
    assert half.shares[TERMS.index("black")] == 1.0
    assert unclear.label is None
    assert unclear.shares == pytest.approx([1 / len(TERMS)] * len(TERMS))


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.json is missing"):
        dataset.read_set(tmp_path, "val")
    write_scenes(tmp_path, [{"label_1": "red", "label_2": "red", "agreed": "red"}])
    with pytest.raises(InputError, match="no split 'test'"):
        dataset.read_set(tmp_path, "test")
    (tmp_path / "val" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png: cannot be read"):
        list(dataset.read_crops(dataset.read_set(tmp_path, "val")))


def test_held_out_split_is_reproducible_and_keeps_pictures_whole(tmp_path: Path) -> None:
    items = [
        dataset.ColorItem(
            tmp_path / f"{number // 2}.png", (0, 0, 9, 9), "more", "red", (1.0,) * 11, 1.0
        )
        for number in range(400)
    ]
    kept, held = dataset.hold_out(items, 0.25)
    assert (kept, held) == dataset.hold_out(items, 0.25)
    assert len(kept) + len(held) == 400
    assert 60 <= len(held) <= 140
    assert not {item.file for item in kept} & {item.file for item in held}
    assert dataset.hold_out(items, 0.0) == (items, [])
    folds = [dataset.hold_out(items, 0.25, start)[1] for start in (0.0, 0.25, 0.5, 0.75)]
    assert sum(len(fold) for fold in folds) == len(items)
    assert len({item.file for fold in folds for item in fold}) == 200
    wrapped = dataset.hold_out(items, 0.5, 0.75)[1]
    assert {item.file for item in wrapped} == {item.file for item in (*folds[3], *folds[0])}
