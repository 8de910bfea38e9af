"""`--dask`: a real scheduler and two real workers; one of the three is killed in mid-run."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")
Image = pytest.importorskip("PIL.Image")

import dask_cluster  # noqa: E402
import labelled  # noqa: E402
from dask_cluster import START_S, Cluster  # noqa: E402
from edge.errors import EXIT_FAILURE, EXIT_UNAVAILABLE  # noqa: E402
from tools import parallel  # noqa: E402
from waiting import wait_until  # noqa: E402

ROOT = Path(__file__).parents[1]
PICTURES = 300


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with dask_cluster.running(tmp_path, workers=2) as found:
        yield found


def data_import(source: Path, output: Path, *more: str) -> list[str]:
    words = ["data", "import", str(source), "--format", "coco", "--output", str(output)]
    return [sys.executable, "-m", "tools", *words, "--max-side", "48", *more]


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@contextlib.contextmanager
def importing(source: Path, output: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Import on Dask and yield the process when it is in mid-run; kill it at the end."""
    journal = output / "import.jsonl"
    command = data_import(source, output, "--dask", address)
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1) as run:
        try:
            wait_until(lambda: lines(journal) > 20 or run.poll() is not None, timeout_s=START_S)
            yield run
        finally:
            run.kill()


@pytest.mark.slow
def test_killed_worker_loses_nothing_and_duplicates_nothing(tmp_path: Path, cluster: Cluster):
    address, (_, *workers) = cluster
    source = labelled.coco(tmp_path / "source", PICTURES)
    output = tmp_path / "set"
    journal = output / "import.jsonl"
    with importing(source, output, address) as run:
        os.kill(workers[0].pid, 9)
        done_before = lines(journal)
        _, complaints = run.communicate(timeout=120)
    assert run.returncode == 0, complaints
    assert 20 < done_before < PICTURES, "the worker was not killed in mid-run"
    assert complaints == b""
    assert workers[0].wait() == -9
    assert workers[1].poll() is None
    notes = Counter(json.loads(line)["key"] for line in journal.read_text().splitlines())
    assert (len(notes), set(notes.values())) == (PICTURES, {1})
    files = {path.name for path in (output / "images").iterdir()}
    assert files == {f"{number:03}.jpg" for number in range(PICTURES)}

    alone = tmp_path / "alone"
    subprocess.run(data_import(source, alone, "--workers", "1"), cwd=ROOT, check=True, timeout=120)
    assert (output / "annotations.json").read_text() == (alone / "annotations.json").read_text()
    for name in sorted(files)[::50]:
        assert (output / "images" / name).read_bytes() == (alone / "images" / name).read_bytes()


@pytest.mark.slow
def test_killed_scheduler_ends_the_command_in_one_line_and_starting_again_resumes(
    tmp_path: Path, cluster: Cluster
):
    address, (scheduler, *_) = cluster
    source = labelled.coco(tmp_path / "source", PICTURES)
    output = tmp_path / "set"
    with importing(source, output, address) as run:
        os.kill(scheduler.pid, 9)
        _, complaints = run.communicate(timeout=120)
    assert run.returncode == EXIT_UNAVAILABLE
    (line,) = complaints.decode().splitlines()
    assert line.startswith(
        f"edge-tools: --dask {address}: the connection to the scheduler was lost"
    )
    assert not (output / "annotations.json").exists()
    again = subprocess.run(data_import(source, output), cwd=ROOT, capture_output=True, check=True)
    assert b"pictures are done" in again.stderr
    assert b"300 pictures, 300 objects, 2 classes; 0 problems" in again.stdout


@pytest.mark.slow
def test_command_ends_when_all_workers_have_gone(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    address, (_, *workers) = cluster
    monkeypatch.setattr(parallel, "WORKERLESS_S", 0.5)
    outcomes = parallel.run_tasks(time.sleep, [0, 60], workers=1, dask=address, title="sleep")
    with contextlib.closing(outcomes):
        assert next(outcomes).index == 0
        for worker in workers:
            os.kill(worker.pid, 9)
        with pytest.raises(parallel.WorkerError, match="no worker is left; start `dask worker"):
            next(outcomes)


@pytest.mark.slow
def test_workers_refuse_the_pictures_that_this_machine_refuses(tmp_path: Path, cluster: Cluster):
    source = labelled.coco(tmp_path / "source", 2)
    image = Image.new("1", (8193, 8192))
    image.save(source.parent / "images" / "001.jpg", "PNG")
    command = data_import(source, tmp_path / "set", "--dask", cluster[0])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FAILURE
    assert "001.jpg: over 67108864 pixels; make it smaller" in done.stderr
