"""Evaluation with several processes gives the results of one, in the same order."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from disk import full_disk
from edge import detector, manifest
from edge.errors import InputError
from edge.values import Detection
from models import detect_folder
from tools.dataset import Dataset, Picture
from tools.evaluate import accuracy, kept, spread, subjects
from tools.evaluate.subjects import Options

LABELS = {1: "person", 2: "car"}


@pytest.fixture
def street(tmp_path: Path) -> Dataset:
    """More pictures than run in one process, each with a red cell somewhere."""
    pictures = []
    for number in range(spread.FEW_PICTURES + 4):
        bgr = np.zeros((64, 64, 3), np.uint8)
        row, column = 16 * (number % 4), 16 * (number // 4 % 4)
        bgr[row : row + 16, column : column + 16] = (0, 0, 255)
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), bgr)
        pictures.append(Picture(number, path, 64, 64, "", frozenset(LABELS.values()), ()))
    return Dataset("street", tuple(pictures), LABELS, ())


def test_model_in_the_current_folder_has_the_folders_name_and_its_own_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = detect_folder(tmp_path, "mine")
    monkeypatch.chdir(folder)
    with ExitStack() as stack:
        here = subjects.load(".", stack, Options())
    assert (here.name, here.size, here.arithmetic) == ("mine", "64x64", "integer-only")
    assert here.file_bytes == (folder / manifest.read(folder).file).stat().st_size
    assert here.labels == ("person", "car")


def test_several_processes_give_the_same_results_in_order_as_one(
    tmp_path: Path, street: Dataset
) -> None:
    with ExitStack() as stack:
        subject = subjects.load(str(detect_folder(tmp_path)), stack, Options())
        alone = accuracy.collect(subject.detect, street)
        spread_out = spread.collect(subject, Options(), street, workers=2, dask=None)
    assert spread_out == alone
    assert len({item["image_id"] for item in alone}) == len(street.pictures)


def test_unreadable_picture_is_named_from_a_worker_too(tmp_path: Path, street: Dataset) -> None:
    first = replace(street.pictures[0], path=tmp_path / "gone.png")
    broken = replace(street, pictures=(first, *street.pictures[1:]))
    with ExitStack() as stack:
        subject = subjects.load(str(detect_folder(tmp_path)), stack, Options())
        with pytest.raises(InputError, match=r"gone\.png"):
            spread.collect(subject, Options(), broken, workers=2, dask=None)


def test_intermediate_results_of_another_set_are_not_reused(
    tmp_path: Path, street: Dataset
) -> None:
    first, *rest = street.pictures
    others = [
        replace(street, pictures=(replace(first, image_id=99), *rest)),
        replace(street, pictures=(replace(first, path=tmp_path / "b" / first.path.name), *rest)),
        replace(street, labels={1: "car", 2: "person"}),
    ]
    with ExitStack() as stack:
        subject = subjects.load(str(detect_folder(tmp_path)), stack, Options())
        names = {kept.name_of(subject, Options(), data) for data in (street, *others)}
    assert len(names) == 4


def test_intermediate_results_of_another_model_or_runtime_are_not_reused(
    tmp_path: Path, street: Dataset
) -> None:
    folder = detect_folder(tmp_path)
    decoder = msgspec.structs.replace(manifest.read(folder).decoder, nms_iou=1)
    lax = detect_folder(tmp_path, "lax", decoder=decoder)
    with ExitStack() as stack:
        subject = subjects.load(str(folder), stack, Options())
        other = replace(subjects.load(str(lax), stack, Options()), name=subject.name)
        measured = [
            (subject, Options()),
            (subject, Options(xnnpack=False)),
            (replace(subject, size="32x32"), Options()),
            (replace(subject, runtime="another"), Options()),
            (replace(subject, labels=("car", "person")), Options()),
            (other, Options()),
        ]
        names = {kept.name_of(one, options, street) for one, options in measured}
    assert len(names) == len(measured)


def test_intermediate_results_of_other_code_are_not_reused(
    tmp_path: Path, street: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        subject = subjects.load(str(detect_folder(tmp_path)), stack, Options())
        names = [kept.name_of(subject, Options(), street) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(kept, "__version__", "99.0")
            names.append(kept.name_of(subject, Options(), street))
        code = tmp_path / "detector"
        shutil.copytree(Path(detector.__file__).parent, code)
        monkeypatch.setattr(detector, "__file__", str(code / "__init__.py"))
        names.append(kept.name_of(subject, Options(), street))
        with (code / "suppression.py").open("a") as file:
            file.write("# another rule\n")
        names.append(kept.name_of(subject, Options(), street))
    assert names[0] == names[1] == names[3]
    assert len(set(names)) == 3


def test_changed_picture_is_measured_again(tmp_path: Path, street: Dataset) -> None:
    few = replace(street, pictures=street.pictures[:3])
    with ExitStack() as stack:
        subject = subjects.load(str(detect_folder(tmp_path)), stack, Options())
        for _ in range(2):
            found = spread.collect(subject, Options(), few, workers=1, dask=None, keep=tmp_path)
            assert found == accuracy.collect(subject.detect, few)
            shutil.copy(street.pictures[-1].path, few.pictures[0].path)


def test_stopped_evaluation_resumes_after_the_last_complete_picture(
    tmp_path: Path, street: Dataset
) -> None:
    keep = tmp_path / "runs" / "kept"
    first = street.pictures[5]
    first.path.rename(tmp_path / "elsewhere.png")
    with ExitStack() as stack:
        subject = subjects.load(str(detect_folder(tmp_path)), stack, Options())
        detected: list[int] = []

        def counted(bgr: np.ndarray) -> list[Detection]:
            detected.append(1)
            return subject.detect(bgr)

        counting = replace(subject, detect=counted, folder=None)
        with pytest.raises(InputError, match=r"5\.png"):
            spread.collect(counting, Options(), street, workers=1, dask=None, keep=keep)
        assert len(detected) == 5
        (tmp_path / "elsewhere.png").rename(first.path)
        (note,) = keep.iterdir()
        note.write_text(note.read_text()[:-9])  # a kill cut the last line off
        found = spread.collect(counting, Options(), street, workers=1, dask=None, keep=keep)
        assert len(detected) == 5 + len(street.pictures) - 4
        assert found == accuracy.collect(subject.detect, street)
        again = spread.collect(counting, Options(), street, workers=1, dask=None, keep=keep)
        assert again == found
        assert len(detected) == 5 + len(street.pictures) - 4
        content = note.read_bytes().splitlines(keepends=True)
        note.write_bytes(b"".join([b"\0\xff\n", b'"text"\n', *content[2:]]))  # a power cut
        again = spread.collect(counting, Options(), street, workers=1, dask=None, keep=keep)
        assert again == found
        assert len(detected) == 7 + len(street.pictures) - 4
        other = replace(counting, digest="another model")
        spread.collect(other, Options(), street, workers=1, dask=None, keep=keep)
        assert len(detected) == 7 + 2 * len(street.pictures) - 4


def test_full_disk_is_reported_with_the_file(tmp_path: Path, street: Dataset) -> None:
    path = tmp_path / "yolox.jsonl"
    log = kept.ResultLog(path, street.pictures)
    with full_disk(0), pytest.raises(OSError, match="File too large") as raised:
        log.add(0, [])
    assert raised.value.filename == str(path)


def test_threads_of_a_dask_worker_share_no_interpreter(street: Dataset) -> None:
    folder = Path(__file__).parents[1] / "models" / "yolox-nano-288"
    model = (str(folder), Options(), "")
    detect = partial(spread._detect, model, {1: "person"})
    pictures = street.pictures[:16]
    alone = [detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detect, pictures)) == alone


def test_model_that_replaced_another_is_loaded_by_a_worker_that_had_the_other(
    tmp_path: Path, street: Dataset
) -> None:
    with ExitStack() as stack:
        for labels in (("person", "car"), ("car", "person")):
            folder = detect_folder(tmp_path, labels=labels)
            subject = subjects.load(str(folder), stack, Options())
            found = spread.collect(subject, Options(), street, workers=1, dask=None)
            assert found == accuracy.collect(subject.detect, street)
            shutil.rmtree(folder)
