"""Groups of near-duplicate pictures: detection, cost, and the reported faults."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import pytest

import labelled
from edge.errors import EXIT_FAILURE
from labelled import document, imported
from tools.cli import main
from tools.data import fingerprint, folder
from tools.data.fingerprint import Fingerprint

pytest.importorskip("imagehash")


def near(centers: int, count: int, seed: int, levels: int) -> list[Fingerprint]:
    """Fingerprints around some hashes, a few bits and up to `levels` of brightness apart."""
    chance = random.Random(seed)
    hashes = [chance.getrandbits(fingerprint.HASH_BITS) for _ in range(centers)]
    made = []
    for number in range(count):
        phash = chance.choice(hashes)
        for bit in chance.sample(range(fingerprint.HASH_BITS), chance.randrange(5)):
            phash ^= 1 << bit
        thumbnail = bytes([100 + chance.randrange(levels)]) * 192
        made.append(Fingerprint(labelled.SIZE, phash, thumbnail, f"{number:064x}"))
    return made


def test_small_differences_of_hash_and_level_are_near_duplicates():
    one = Fingerprint(labelled.SIZE, 0, bytes([100]) * 192, "a")
    for bits, level, is_alike in ((4, 108, True), (5, 108, False), (4, 109, False), (0, 92, True)):
        other = Fingerprint(labelled.SIZE, (1 << bits) - 1, bytes([level]) * 192, "b")
        assert fingerprint.alike(one, other) is is_alike
        assert fingerprint.alike(other, one) is is_alike


def test_fingerprint_has_the_bits_of_the_perceptual_hash(tmp_path: Path):
    import imagehash
    from PIL import Image

    path = labelled.save(tmp_path / "0.png", 0)
    found = fingerprint.take(path)
    gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(gray, (64, 64), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Image.fromarray(small)).hash.ravel()
    exact = int("".join("01"[int(bit)] for bit in bits), 2)
    assert (found.phash ^ exact).bit_count() <= 2  # gray before or after it is shrunk
    assert (found.size, len(found.thumbnail)) == (labelled.SIZE, 192)


def by_every_pair(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """What `groups` is to return, from each pair in turn."""
    group = list(range(len(prints)))
    for one, other in combinations(range(len(prints)), 2):
        if fingerprint.alike(prints[one], prints[other]):
            old, new = group[other], group[one]
            group = [new if item == old else item for item in group]
    return [
        [index for index, item in enumerate(group) if item == number]
        for number in dict.fromkeys(group)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_groups_match_a_comparison_of_all_pairs(seed: int):
    prints = near(centers=12, count=120, seed=seed, levels=40)
    expected = by_every_pair(prints)
    assert 12 < len(expected) < 120
    assert fingerprint.groups(prints) == expected


def test_similar_pictures_of_a_fixed_camera_take_few_comparisons(monkeypatch: pytest.MonkeyPatch):
    prints = near(centers=1, count=1000, seed=1, levels=3)
    calls = 0
    alike = fingerprint.alike

    def counted(one: Fingerprint, other: Fingerprint) -> bool:
        nonlocal calls
        calls += 1
        return alike(one, other)

    monkeypatch.setattr(fingerprint, "alike", counted)
    assert fingerprint.groups(prints) == [list(range(1000))]
    assert calls < 10 * len(prints)  # all pairs are 499,500


def checked(data: Path, report: Path) -> list[dict[str, object]]:
    words = ["data", "check", str(data), "--workers", "1", "--report", str(report)]
    assert main(words) == EXIT_FAILURE
    return [
        fault for fault in json.loads(report.read_text()) if fault["kind"] in ("duplicate", "leak")
    ]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """An imported set of 8 pictures; the first four are one picture, recompressed."""
    images = labelled.coco(tmp_path / "source", 8).parent / "images"
    bgr = cv2.imread(str(images / "000.jpg"))
    for number in range(1, 4):
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90 - number * 10]
        cv2.imwrite(str(images / f"{number:03}.jpg"), bgr, quality)
    imported(tmp_path / "source" / "instances.json", "coco", tmp_path / "set")
    return tmp_path / "set"


def test_group_of_near_duplicates_is_one_fault_with_all_its_pictures(
    watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (fault,) = checked(watched, tmp_path / "faults.json")
    paths = [str(watched / "images" / f"{number:03}.jpg") for number in range(4)]
    assert (fault["kind"], fault["paths"]) == ("duplicate", paths)
    message = f"duplicate: {paths[0]} shows the same as {paths[1]} and 2 more (set/annotations)"
    assert message in capsys.readouterr().out


def test_group_across_splits_is_a_leak_and_within_a_split_a_duplicate(
    watched: Path, tmp_path: Path
):
    content = document(watched)
    for name, images in (("train", content["images"][:3]), ("val", content["images"][3:])):
        folder.write(watched / f"{name}.json", content | {"images": images})
    duplicate, leak = checked(watched, tmp_path / "faults.json")
    paths = [str(watched / "images" / f"{number:03}.jpg") for number in range(4)]
    assert (duplicate["kind"], duplicate["paths"]) == ("duplicate", paths[:3])
    assert (leak["kind"], leak["paths"]) == ("leak", [paths[0], paths[3], *paths[1:3]])
    message = f"{paths[0]} shows the same as {paths[3]} and 2 more (set/train and set/val)"
    assert leak["text"] == message


def test_recompressed_and_shrunk_pictures_are_near_duplicates_and_others_not(tmp_path: Path):
    prints = [fingerprint.take(labelled.save(tmp_path / f"{n}.png", n)) for n in range(40)]
    assert fingerprint.groups(prints) == [[index] for index in range(40)]
    small = cv2.resize(labelled.picture(0), (72, 48), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "small.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert fingerprint.alike(prints[0], fingerprint.take(tmp_path / "small.jpg"))


def test_similar_hashes_with_other_colors_are_not_duplicates(tmp_path: Path):
    one = labelled.picture(1)
    gray = cv2.cvtColor(one, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "one.png"), cv2.merge([gray, gray // 2, gray // 2]))
    cv2.imwrite(str(tmp_path / "other.png"), cv2.merge([gray // 2, gray // 2, gray]))
    prints = [fingerprint.take(tmp_path / name) for name in ("one.png", "other.png")]
    assert (prints[0].phash ^ prints[1].phash).bit_count() <= fingerprint.MAX_BITS
    assert not fingerprint.alike(*prints)
