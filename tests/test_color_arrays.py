from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")


from color_crops import colored_data
from edge.color import TERMS
from tools.color.data import arrays, dataset


def test_product_crops_are_exempt_from_light_augmentation(tmp_path: Path) -> None:
    colored_data(tmp_path)
    cv2.imwrite(str(tmp_path / "street.png"), np.full((60, 60, 3), 90, np.uint8))
    box = (10.0, 10.0, 40.0, 40.0)
    scene = dataset.ColorItem(tmp_path / "street.png", box, "scene", "gray", (0.0,) * 11, 1.0)
    items = [*dataset.read_set(tmp_path / "color", "train"), scene]
    assert arrays.pack(items, 32, 0.1).steady.tolist() == [True] * (len(items) - 1) + [False]


def test_packed_crops_keep_a_margin_and_the_place_of_the_box(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:40] = (0, 0, 200)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    shares = tuple(float(term == "red") for term in TERMS)
    item = dataset.ColorItem(tmp_path / "a.png", (20, 10, 20, 20), "scene", "red", shares, 1.0)
    first = arrays.pack_cached([item], 48, 0.5, tmp_path / "cache")
    assert first.boxes[0] == pytest.approx([0.25, 0.25, 0.75, 0.75])
    assert first.rgb[0, 24, 24].tolist() == [200, 0, 0]
    assert first.rgb[0, 2, 2].tolist() == [0, 0, 0]


def test_crops_come_from_the_cache_until_their_picture_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"  # of one size, whatever it shows
    cv2.imwrite(str(path), np.full((40, 60, 3), 50, np.uint8))
    item = dataset.ColorItem(path, None, "scene", None, (0.0,) * 11, 1.0)
    first = arrays.pack_cached([item], 8, 0.0, tmp_path / "cache")
    made_ns = path.stat().st_mtime_ns
    cv2.imwrite(str(path), np.full((40, 60, 3), 200, np.uint8))
    os.utime(path, ns=(made_ns, made_ns))
    again = arrays.pack_cached([item], 8, 0.0, tmp_path / "cache")
    assert np.array_equal(again.rgb, first.rgb)
    os.utime(path, ns=(made_ns, made_ns + 1))
    changed = arrays.pack_cached([item], 8, 0.0, tmp_path / "cache")
    assert (changed.rgb == 200).all()


def test_two_processes_at_once_share_one_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"rgb": np.arange(9)}
    others = []
    real = np.savez

    def savez(*given: object, **named: object) -> None:
        if not others:  # the second one comes while the first one writes
            others.append(threading.Thread(target=arrays.cached, args=("a", tmp_path, make)))
            others[0].start()
            others[0].join(0.5)
        real(*given, **named)

    def make() -> arrays.Arrays:
        return made

    monkeypatch.setattr(np, "savez", savez)
    first = arrays.cached("a", tmp_path, make)
    others[0].join()
    again = arrays.cached("a", tmp_path, dict)
    assert first["rgb"].tolist() == again["rgb"].tolist() == made["rgb"].tolist()
