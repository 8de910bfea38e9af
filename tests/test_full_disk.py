"""The workstation's commands on a full disk: one line, nothing lost, then they resume."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

import labelled
from classifying import Walk, output_of, run_all
from disk import small_file_system
from edge import registry
from edge.errors import EXIT_FAILURE, EXIT_OK, EXIT_UNAVAILABLE
from edge.registry import open_store
from registered import golden_folder
from tools.cli import main

ROOM_BYTES = 4_000_000
PICTURES = 30
ONE_EPOCH_BYTES = 1_300_000  # pictures and the state of one epoch, but not of two
NO_ROOM = "No space left on device"


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self, *, but_bytes: int = 0) -> None:
        """Leave only this much room."""
        self.clear()
        state = os.statvfs(self.folder)
        with self.ballast.open("wb") as file:
            file.write(bytes(max(state.f_bavail * state.f_frsize - but_bytes, 0)))

    def clear(self) -> None:
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Needs the right to mount."""
    with small_file_system(tmp_path / "disk", ROOM_BYTES) as folder:
        yield Disk(folder)


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The last line of standard error, the only one of a failure."""
    lines = capfd.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    assert sum(NO_ROOM in line for line in lines) == 1, lines
    return lines[-1]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_import_resumes_after_a_full_disk(
    disk: Disk, tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: str
) -> None:
    source = labelled.folders(tmp_path / "source", PICTURES)
    words = ["data", "import", str(source), "--format", "folders", "--workers", workers]
    command = [*words, "--copy", "--output", str(disk.folder / "set")]
    # More than the pictures, 12 kB each, that two workers get before the first one is listed.
    disk.fill(but_bytes=200_000)
    assert main(command) == EXIT_FAILURE
    # A picture, or the list of the done ones, found no room.
    assert re.search(r"start again(; \d+ pictures are done)?$", one_line(capfd).strip())
    done = (disk.folder / "set" / "import.jsonl").read_text().count("\n")
    assert 0 < done < PICTURES
    disk.clear()
    assert main(command) == EXIT_OK
    assert f"{done} pictures are done" in capfd.readouterr().err
    found = json.loads((disk.folder / "set" / "annotations.json").read_text())
    names = {image["file_name"] for image in found["images"]}
    assert len(names) == PICTURES
    files = [path for path in (disk.folder / "set" / "images").rglob("*") if path.is_file()]
    assert len(files) == PICTURES


def test_registry_reports_a_full_disk_and_keeps_its_versions(
    disk: Disk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (str(golden_folder(tmp_path, version)) for version in ("1.0.0", "1.1.0"))
    place = ["--registry", str(disk.folder / "registry")]
    key = str(disk.folder / "key.pem")
    disk.fill()
    assert main(["registry", "keygen", key]) == EXIT_FAILURE
    assert NO_ROOM in one_line(capfd)
    disk.clear()
    assert main(["registry", "keygen", key]) == EXIT_OK  # no partial key is left
    sign = ["--sign-key", key]
    assert main(["registry", "push", first, *place, *sign]) == EXIT_OK
    disk.fill(but_bytes=20_000)
    assert main(["registry", "push", second, *place, *sign]) == EXIT_UNAVAILABLE
    assert "make room and start again" in one_line(capfd)
    store = open_store(str(disk.folder / "registry"))
    (name,) = store.names("")
    assert [one.version for one in registry.versions(store, name)] == ["1.0.0"]
    pull = ["registry", "pull", name, "--version", "1.0.0", *place]
    output = ["--output", str(disk.folder / "back")]
    assert main([*pull, *output]) == EXIT_UNAVAILABLE
    assert "make room and start again" in one_line(capfd)
    assert not (disk.folder / "back").exists()
    disk.clear()
    assert main(["registry", "push", second, *place, *sign]) == EXIT_OK
    assert main([*pull, *output]) == EXIT_OK


@pytest.mark.long
@pytest.mark.timeout(900)
def test_training_and_measurement_resume_after_a_full_disk(disk: Disk, walk: Walk) -> None:
    output_of(walk, "levels", 0)
    data = str(walk.folder / "set")
    tiny = ["--backbone", "TinyNet", "--side", "32", "--width", "8", "--weights", "none"]
    run = ["train", "classifier", data, *tiny, "--epochs", "3", "--output"]
    disk.fill(but_bytes=ONE_EPOCH_BYTES)
    train = [*run, str(disk.folder / "run")]
    levels = [str(walk.folder / "base" / "levels" / level) for level in ("TL", "IO")]
    measure = ["evaluate", *levels, "--output", str(disk.folder / "figures")]
    answers = run_all(walk.folder, {"train": train})
    answers |= run_all(walk.folder, {"measure": measure})
    for code, _, err in answers.values():
        assert code == EXIT_FAILURE, err
        assert "make room and start again" in err.strip().splitlines()[-1]
    epochs = json.loads((disk.folder / "run" / "state" / "network.json").read_text())["history"]
    assert 0 < len(epochs) < 3
    disk.clear()
    answers = run_all(walk.folder, {"train": train, "measure": measure})
    assert [answer[0] for answer in answers.values()] == [EXIT_OK, EXIT_OK]
    done = json.loads((disk.folder / "run" / "state" / "network.json").read_text())["history"]
    assert done[: len(epochs)] == epochs
