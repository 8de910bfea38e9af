"""A run's folder belongs to one training."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("rich", reason="classifiers need rich: pip install 'edge-camera[tools]'")

from class_folders import draw_splits
from edge.errors import InputError
from tools.classifier import claim, train
from tools.classifier.description import Training

BEFORE = Training()
AFTER = msgspec.structs.replace(BEFORE, learning_rate=0.5, width=8)


def test_same_run_resumes_and_another_gets_the_differences(tmp_path: Path) -> None:
    assert claim.stored_settings(tmp_path) is None
    claim.claim(tmp_path, BEFORE, "data")
    claim.claim(tmp_path, BEFORE, "data")
    with pytest.raises(InputError, match=rf"width {BEFORE.width}, learning_rate 0\.001"):
        claim.claim(tmp_path, AFTER, "data")
    assert claim.stored_settings(tmp_path) == BEFORE


def test_run_on_other_classes_or_pictures_is_refused(tmp_path: Path) -> None:
    data, run = tmp_path / "set", tmp_path / "run"
    draw_splits(data, 3)
    claim.claim(run, BEFORE, train.open_run(data, BEFORE, run).data_sha256)
    train.open_run(data, BEFORE, run)
    for split in ("train", "val", "test"):
        (data / split / "red").rename(data / split / "rust")
    with pytest.raises(InputError, match="holds a run on other pictures or classes"):
        train.open_run(data, BEFORE, run)
    for split in ("train", "val", "test"):
        (data / split / "rust").rename(data / split / "red")
    (data / "train" / "red" / "000.png").unlink()
    with pytest.raises(InputError, match="holds a run on other pictures or classes"):
        train.open_run(data, BEFORE, run)


def test_released_folder_is_free_and_keeps_its_results(tmp_path: Path) -> None:
    claim.claim(tmp_path, BEFORE, "data")
    (tmp_path / claim.STATE).mkdir()
    (tmp_path / "model.keras").write_text("made")
    claim.discard_state(tmp_path)
    claim.claim(tmp_path, AFTER, "data")
    assert not (tmp_path / claim.STATE).exists()
    assert (tmp_path / "model.keras").exists()


def test_unreadable_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / claim.RUN_FILE).write_text('{"side_px": ')
    with pytest.raises(InputError, match=r"training\.json: .*remove it"):
        claim.refuse_other_run(tmp_path, BEFORE)
