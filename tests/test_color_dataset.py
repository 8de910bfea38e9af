from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")


from color_crops import colored_data, write_scenes
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


def test_products_keep_the_light_in_which_they_were_named(tmp_path: Path) -> None:
    colored_data(tmp_path)
    cv2.imwrite(str(tmp_path / "street.png"), np.full((60, 60, 3), 90, np.uint8))
    box = (10.0, 10.0, 40.0, 40.0)
    scene = dataset.ColorItem(tmp_path / "street.png", box, "scene", "gray", (0.0,) * 11, 1.0)
    items = [*dataset.read_set(tmp_path / "color", "train"), scene]
    assert dataset.pack(items, 32, 0.1).steady.tolist() == [True] * (len(items) - 1) + [False]


def test_packed_crops_keep_a_margin_and_say_where_the_box_is(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:40] = (0, 0, 200)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    shares = tuple(float(term == "red") for term in TERMS)
    item = dataset.ColorItem(tmp_path / "a.png", (20, 10, 20, 20), "scene", "red", shares, 1.0)
    first = dataset.pack_cached([item], 48, 0.5, tmp_path / "cache")
    assert first.boxes[0] == pytest.approx([0.25, 0.25, 0.75, 0.75])
    assert first.rgb[0, 24, 24].tolist() == [200, 0, 0]
    assert first.rgb[0, 2, 2].tolist() == [0, 0, 0]
    (tmp_path / "a.png").unlink()
    again = dataset.pack_cached([item], 48, 0.5, tmp_path / "cache")
    assert np.array_equal(again.rgb, first.rgb)


def test_two_at_once_make_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"rgb": np.arange(9)}
    others = []
    real = np.savez

    def savez(*given: object, **named: object) -> None:
        if not others:  # the second one comes while the first one writes
            others.append(threading.Thread(target=dataset.cached, args=("a", tmp_path, make)))
            others[0].start()
            others[0].join(0.5)
        real(*given, **named)

    def make() -> dataset.Arrays:
        return arrays

    monkeypatch.setattr(np, "savez", savez)
    first = dataset.cached("a", tmp_path, make)
    others[0].join()
    again = dataset.cached("a", tmp_path, dict)
    assert first["rgb"].tolist() == again["rgb"].tolist() == arrays["rgb"].tolist()


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.json is missing"):
        dataset.read_set(tmp_path, "val")
    write_scenes(tmp_path, [{"label_1": "red", "label_2": "red", "agreed": "red"}])
    with pytest.raises(InputError, match="no split 'test'"):
        dataset.read_set(tmp_path, "test")
    (tmp_path / "val" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png: cannot be read"):
        list(dataset.read_crops(dataset.read_set(tmp_path, "val")))


def test_held_out_pictures_are_the_same_each_time_and_whole(tmp_path: Path) -> None:
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
