from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from class_folders import CLASSES, draw, draw_splits
from disk import full_disk
from edge.errors import EXIT_USAGE, InputError
from tools import cli
from tools.classifier import data, representative
from tools.classifier.augment import augment

NAMES = tuple(sorted(CLASSES))


def test_classes_are_the_sorted_folders(tmp_path: Path) -> None:
    draw_splits(tmp_path, 3)
    (tmp_path / "train" / ".cache").mkdir()
    assert data.class_names(tmp_path) == NAMES


def test_hidden_files_and_folders_named_like_pictures_are_ignored(tmp_path: Path) -> None:
    draw_splits(tmp_path, 3)
    before = data.items(tmp_path, "train", NAMES)
    (tmp_path / "train" / NAMES[0] / "._001.png").write_bytes(b"of macOS")
    (tmp_path / "train" / NAMES[0] / "more.png").mkdir()
    assert data.items(tmp_path, "train", NAMES) == before


def test_splits_by_content_share_no_picture_and_lose_none(tmp_path: Path) -> None:
    draw(tmp_path, 60, seed=1)
    found = [data.items(tmp_path, split, NAMES) for split in ("train", "val", "test")]
    paths = [item.path for items in found for item in items]
    assert len(paths) == len(set(paths)) == 180
    assert len(found[0]) > len(found[1]) + len(found[2])


def test_pictures_are_those_that_data_import_reads(tmp_path: Path) -> None:
    draw_splits(tmp_path, 3)
    red = tmp_path / "train" / "red"
    (red / "sub").mkdir()
    (red / "000.png").rename(red / "sub" / "000.png")
    cv2.imwrite(str(red / "scan.TIF"), np.zeros((20, 20, 3), np.uint8))
    (red / "._001.png").write_bytes(b"of macOS")
    found = [item.path for item in data.items(tmp_path, "train", NAMES)]
    names = ["001.png", "002.png", "scan.TIF", "sub/000.png"]
    assert [path for path in found if red in path.parents] == [red / name for name in names]


def test_split_of_a_picture_survives_renaming(tmp_path: Path) -> None:
    draw(tmp_path, 60, seed=1)
    before = data.items(tmp_path, "val", NAMES)[0]
    content = before.path.read_bytes()
    before.path.rename(before.path.with_name("zzz.png"))
    after = {item.path.read_bytes() for item in data.items(tmp_path, "val", NAMES)}
    assert content in after


def test_train_folder_without_val_is_split(tmp_path: Path) -> None:
    draw(tmp_path / "train", 60, seed=1)
    train, val = (
        {item.path for item in data.items(tmp_path, split, NAMES)} for split in ("train", "val")
    )
    assert not train & val
    assert len(train | val) == 180
    with pytest.raises(InputError, match="no folder test"):
        data.items(tmp_path, "test", NAMES)


def test_pixels_are_stretched_rgb_and_read_only_once(tmp_path: Path) -> None:
    draw_splits(tmp_path / "set", 3)
    packed = data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    assert packed.rgb.shape == (9, 32, 32, 3)
    middle = packed.rgb[:, 14:18, 14:18].reshape(9, -1, 3).mean(1)
    expected = {"red": 0, "green": 1, "blue": 2}
    assert [expected[NAMES[label]] for label in packed.labels] == middle.argmax(1).tolist()
    written = packed.file.stat().st_mtime_ns
    again = data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    assert again.file.stat().st_mtime_ns == written
    assert again.sha256 == packed.sha256


def test_changed_picture_changes_the_data_hash(tmp_path: Path) -> None:
    draw_splits(tmp_path / "set", 3)
    before = data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    path = tmp_path / "set" / "train" / "red" / "000.png"
    cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
    after = data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    assert after.sha256 != before.sha256


def test_network_input_as_int8_is_the_level_with_its_top_bit_flipped() -> None:
    levels = np.arange(256, dtype=np.uint8)
    quantized = data.network_input(levels) * 128
    np.testing.assert_array_equal(quantized.astype(np.int8), (levels ^ 0x80).view(np.int8))


def test_corrupt_pictures_are_all_named(tmp_path: Path) -> None:
    draw_splits(tmp_path / "set", 3)
    for name in ("red", "blue"):
        (tmp_path / "set" / "train" / name / "001.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"blue/001\.png.*red/001\.png.*repair or remove"):
        data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.json"))


def test_incomplete_cache_description_after_a_full_disk_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_splits(tmp_path / "set", 6)
    with monkeypatch.context() as patched:
        patched.setattr(data, "_write", lambda *_: "0")  # its pixels have been written
        with full_disk(10), pytest.raises(OSError, match="File too large"):
            data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    again = data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    assert again.sha256 != "0"


def test_empty_class_is_named(tmp_path: Path) -> None:
    draw_splits(tmp_path, 3)
    (tmp_path / "train" / "mauve").mkdir()
    with pytest.raises(InputError, match=r"class 'mauve': no picture in .*fill or remove"):
        data.items(tmp_path, "train", data.class_names(tmp_path))


def test_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    with pytest.raises(InputError, match="only the class 'red'"):
        data.class_names(tmp_path)


def test_class_that_was_not_trained_is_an_error_that_names_it(tmp_path: Path) -> None:
    draw_splits(tmp_path, 3)
    with pytest.raises(InputError, match="not trained: red; known are blue, green"):
        data.items(tmp_path, "test", ("blue", "green"))


def test_full_disk_leaves_no_partial_cache_in_use(tmp_path: Path) -> None:
    draw_splits(tmp_path / "set", 6)
    with full_disk(10_000), pytest.raises(OSError, match="File too large"):
        data.pack(tmp_path / "set", "train", NAMES, 32, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.json"))


def test_representative_pictures_are_balanced_over_classes() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    rows = representative.choose(labels, 30, seed=1)
    assert np.bincount(labels[rows]).tolist() == [10, 10, 10]
    assert representative.choose(labels, 12, seed=1).tolist() == rows[:12].tolist()
    assert len(representative.choose(labels, 1000, seed=1)) == 100


def test_augmented_pictures_are_shifted_or_mirrored_originals() -> None:
    rgb = np.zeros((40, 16, 16, 3), np.uint8)
    rgb[:, 6:9, 4:6] = 200  # 3 x 2 pixels, away from the edges
    made = augment(rgb, np.random.default_rng(1))
    assert made.shape == rgb.shape
    assert (made > 0).sum() == (rgb > 0).sum()
    assert len({picture.tobytes() for picture in made}) > 10


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "classifier", "x", "--dropout", "1"], "'1' is not a share"),
        (["train", "classifier", "x", "--width", "-8"], "'-8' is not a whole number of 0 or more"),
        (["train", "classifier", "x", "--epochs", "0"], "'0' is not a whole number of 1 or more"),
        (["train", "classifier", "x", "--learning-rate", "-1"], "'-1' is not a number above 0"),
        (["quantize", "classifier", "x", "--data", "y", "--levels", "F8"], "invalid choice: 'F8'"),
    ],
)
def test_number_out_of_range_is_a_usage_error(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == EXIT_USAGE
    assert line in capsys.readouterr().err


def test_file_names_may_be_invalid_utf8_but_class_names_may_not(tmp_path: Path) -> None:
    draw(tmp_path / "train", 2, seed=1)
    first = data.items(tmp_path, "train", NAMES)[0].path
    first.rename(first.with_name(os.fsdecode(b"\xff.png")))
    found = data.pack(tmp_path, "train", NAMES, 8, tmp_path / "cache")
    assert any(name.endswith("\udcff.png") for name in found.names)
    (tmp_path / "train" / os.fsdecode(b"\xff")).mkdir()
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        data.class_names(tmp_path)
