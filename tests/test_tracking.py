"""Experiments are recorded in a real store: curves, settings, artefacts, commit and data hash."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import UnavailableError
from mosquitto import free_port
from tools import tracking
from waiting import is_listening, wait_until

ROOT = Path(__file__).parents[1]


def recorded(store: Path, run_id: str | None) -> Any:
    """Read a run back with MLflow's own client."""
    return client(store).get_run(run_id)


def client(store: Path) -> Any:
    pytest.importorskip("mlflow")
    with tracking._quiet():
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: to make one takes seconds."""
    return tmp_path_factory.mktemp("store")


def test_run_records_curves_settings_artefacts_commit_and_data_hash(
    store: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    labels = tmp_path / "train.json"
    labels.write_text("{}")
    settings = {"rate": 0.1, "net": {"width": 8}}
    with tracking.start("keeps", params=settings, uri=str(store), data=[labels]) as run:
        run.metrics(1, ap50=0.25)
        run.metrics(2, ap50=0.5)
        run.artifact(labels)
    found = recorded(store, run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["rate"] == "0.1"
    assert found.data.params["net.width"] == "8"
    assert found.data.params["data_sha256"] == tracking.hash_of([labels])
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", found.data.params["git_commit"])
    curve = client(store).get_metric_history(run.run_id, "ap50")
    assert [(point.step, point.value) for point in curve] == [(1, 0.25), (2, 0.5)]
    (kept,) = client(store).list_artifacts(run.run_id)
    assert kept.path == "train.json"


def test_store_whose_making_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    script = f"""
import os
from sqlalchemy import Engine, event
from tools import tracking

def end(*details):
    if "CREATE TABLE _alembic_tmp_experiments" in details[2]:  # MLflow makes it only once
        os._exit(3)

event.listen(Engine, "after_cursor_execute", end)
with tracking.start("new", uri={str(tmp_path)!r}):
    pass
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 3
    with tracking.start("new", uri=str(tmp_path)) as run:
        run.metrics(1, ap50=0.25)
    assert recorded(tmp_path, run.run_id).info.status == "FINISHED"
    assert list(tmp_path.glob("*.new*")) == []


def test_failed_run_is_recorded_as_failed(store: Path) -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(ZeroDivisionError), tracking.start("fails", uri=str(store)) as run:
        _ = 1 / 0
    assert recorded(store, run.run_id).info.status == "FAILED"


def test_resumed_training_continues_its_run(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    ids = []
    for step in (1, 2):
        with tracking.start(
            "resumes", params={"a": 1}, uri=str(store), folder=tmp_path / "run"
        ) as run:
            run.metrics(step, loss=1.0 / step)
        ids.append(run.run_id)
    assert ids[0] == ids[1]
    assert len(client(store).get_metric_history(ids[0], "loss")) == 2
    assert recorded(store, ids[0]).info.run_name == "run"


def test_store_that_fails_later_is_reported_once_and_stops_nothing(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setattr(tracking, "_said", set())
    with caplog.at_level(logging.WARNING), tracking.start("loses", uri=str(store)) as run:
        run.artifact(tmp_path / "missing-1")
        run.artifact(tmp_path / "missing-2")
        run.metrics(1, loss=1.0)
    assert caplog.text.count("tracking.lost") == 1
    assert recorded(store, run.run_id).data.metrics == {"loss": 1.0}


def test_store_that_cannot_be_opened_is_a_one_line_error(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UnavailableError, match="experiment store"),
        tracking.start("none", uri=str(tmp_path / "file" / "store")),
    ):
        pass


def test_two_processes_may_make_a_store_at_once(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    code = "import sys; from tools.tracking import start; start('b', uri=sys.argv[1]).__enter__()"
    command = [sys.executable, "-c", code, str(tmp_path / "store")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=240)[1] for process in both] == ["", ""]
    (experiment,) = client(tmp_path / "store").search_experiments(filter_string="name = 'b'")
    assert len(client(tmp_path / "store").search_runs([experiment.experiment_id])) == 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of MLflow's own server, a process of its own."""
    for module in ("mlflow", "flask", "flask_cors"):
        pytest.importorskip(module)
    port = free_port()
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{tmp_path}/server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(tmp_path / "kept"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "mlflow.server:app", "run", "--port", str(port)],
        env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or is_listening(port), 90)
        assert process.poll() is None, "the server ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.slow
def test_server_stores_runs_and_artefacts(server: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "curve.txt").write_text("falling")
    with tracking.start("remote", uri=server, data=[tmp_path / "labels.json"]) as run:
        run.metrics(1, loss=2.0)
        run.metrics(2, loss=1.0)
        run.artifact(tmp_path / "curve.txt")
    with tracking._quiet():
        from mlflow.tracking import MlflowClient

        there = MlflowClient(tracking_uri=server)
        found = there.get_run(run.run_id)
        points = [point.value for point in there.get_metric_history(run.run_id, "loss")]
    assert found.info.status == "FINISHED"
    assert found.data.params["data_sha256"] == tracking.hash_of([tmp_path / "labels.json"])
    assert points == [2.0, 1.0]
    (kept,) = (tmp_path / "kept").rglob("curve.txt")
    assert kept.read_text() == "falling"


@pytest.mark.parametrize("kind", ["missing folder", "no database", "away"])
def test_invalid_store_address_is_a_one_line_error_at_once(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "text").write_text("no database, but longer than its header")
    address = {
        "missing folder": f"sqlite:///{tmp_path}/none/store.db",
        "no database": f"sqlite:///{tmp_path}/text",
        "away": "http://127.0.0.1:9",
    }[kind]
    program = (
        "from tools import tracking\n"
        "from edge.errors import UnavailableError\n"
        "try:\n"
        f"    tracking.start('none', uri={address!r}).__enter__()\n"
        "except UnavailableError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"experiment store {address}: ")


def test_missing_mlflow_is_reported_once_and_stops_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_said", set())
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda _: None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with tracking.start("off", params={"a": 1}) as run:
                run.metrics(1, loss=1.0)
                run.artifact(Path("nothing"))
    assert run.run_id is None
    assert caplog.text.count("pip install") == 1


def test_data_hash_depends_on_content_and_names_but_not_on_the_path(tmp_path: Path) -> None:
    hashes = []
    for place, name, content in (
        ("a", "x", "1"),
        ("b", "x", "1"),
        ("c", "y", "1"),
        ("d", "x", "2"),
    ):
        folder = tmp_path / place / "data"
        folder.mkdir(parents=True)
        (folder / name).write_text(content)
        hashes.append(tracking.hash_of([folder]))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
