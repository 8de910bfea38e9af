"""Records runs as MLflow experiments: parameters, curves, artifacts, git commit and data hash.

    with tracking.start("color", params=asdict(config), data=[train_json], folder=out) as run:
        run.metrics(step, ap50=0.47)
        run.artifact(out / "metrics.jsonl")

The store is `uri`, else $MLFLOW_TRACKING_URI, else SQLite in `runs/mlflow/` (`DEFAULT_FOLDER`), to
be viewed with `mlflow ui --backend-store-uri sqlite:///runs/mlflow/mlflow.db`. Without MLflow, one
line is logged and the run continues. A store that cannot be opened is an error before the run
starts; if it fails later, this is logged once and the run continues, because all results are also
in the run's folder. MLflow's telemetry is switched off, so data goes only to the store.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib
import importlib.util
import logging
import os
import re
import sqlite3
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edge import __version__
from edge.errors import InputError, UnavailableError, brief

logger = logging.getLogger(__name__)

DEFAULT_FOLDER = Path("runs/mlflow")
RUN_FILE = "mlflow-run.txt"  # in a run's folder: id of the MLflow run that a resumed one continues
LOCK_FILE = "open.lock"  # in the store's folder
MAX_VALUE_CHARS = 500  # the smallest limit of any store
_CHUNK_BYTES = 1 << 20
SQLITE = "sqlite:///"
_NOT_A_NAME = re.compile(r"[^\w. /-]")  # characters that MLflow rejects in metric names
_said: set[str] = set()


class Run:
    """One run of an experiment; without MLflow, all methods do nothing.

    run_id: MLflow's, None if nothing is recorded.
    """

    def __init__(self, client: Any = None, run_id: str | None = None) -> None:
        self.run_id = run_id
        self._client = client

    def metrics(self, step: int, **values: float) -> None:
        """Add one point to each named curve. step: x value of the curves, 0 or more."""
        for name, value in values.items():
            self._send("log_metric", _NOT_A_NAME.sub("_", name), value, step=step)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings; nested ones as `outer.inner`. A recorded value cannot be changed."""
        for name, value in _flat(values).items():
            self._send("log_param", name, value)

    def artifact(self, path: Path) -> None:
        """Store a copy of a file, or of a folder with its content."""
        self._send("log_artifacts" if path.is_dir() else "log_artifact", str(path))

    def end(self, status: str) -> None:
        """Record how the run ended: MLflow's FINISHED, FAILED or KILLED."""
        self._send("set_terminated", status)

    def _send(self, method: str, *values: Any, **named: Any) -> None:
        """Call a method of MLflow's client with the run's id as first argument."""
        if self._client is None:
            return
        try:
            with _quiet():
                getattr(self._client, method)(self.run_id, *values, **named)
        except Exception as error:  # noqa: BLE001 - no MLflow error may end a training
            _warn_once("tracking.lost", f"this run's record is incomplete: {brief(error, 300)}")


UNRECORDED = Run()


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --tracking-uri."""
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server, database or folder; default: $MLFLOW_TRACKING_URI, else "
        f"{DEFAULT_FOLDER}",
    )


@contextmanager
def start(
    experiment: str,
    *,
    params: Mapping[str, Any] | None = None,
    uri: str | None = None,
    data: Sequence[Path] = (),
    folder: Path | None = None,
) -> Iterator[Run]:
    """Yield a run; when the block ends, record how it ended.

    experiment: name of a group of comparable runs. data: label files and folders used; their hash
    is recorded. folder: the run's folder; restarted with it, the same MLflow run is continued.
    Raises UnavailableError when the store cannot be opened.
    """
    run = _open(experiment, uri, folder)
    if run.run_id is not None and not _is_known(folder, run.run_id):
        run.params({**(params or {}), **provenance(data)})
        _remember(folder, run.run_id)
    try:
        yield run
    except BaseException as error:
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.end("FINISHED")


def provenance(data: Sequence[Path]) -> dict[str, str]:
    """Return `edge_version`, `git_commit` (with `+changes` when files differ) and `data_sha256`."""
    found = {"edge_version": __version__, "git_commit": _git_commit()}
    if data:
        found["data_sha256"] = hash_of(data)
    return found


def hash_of(paths: Sequence[Path]) -> str:
    """Return one sha256 (hex) over the names and contents of files and folders.

    It depends neither on the order of a folder's entries nor on where the files are stored.
    Raises InputError when a file is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for one in files:
            digest.update(os.fsencode(f"{one.relative_to(path.parent).as_posix()}\0"))
            try:
                with one.open("rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        digest.update(chunk)
            except FileNotFoundError:
                raise InputError(f"{one}: no such file; check the path") from None
    return digest.hexdigest()


def _open(experiment: str, uri: str | None, folder: Path | None) -> Run:
    if importlib.util.find_spec("mlflow") is None:
        _warn_once("tracking.off", "MLflow is not installed; pip install 'edge-camera[tools]'")
        return Run()
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or str(DEFAULT_FOLDER)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        with _quiet():
            importlib.import_module("mlflow.tracking")  # sets its loggers' levels itself
        with _quiet(), _alone(chosen):
            return _run(experiment, chosen, folder)
    except Exception as error:  # every store raises its own
        raise UnavailableError(f"experiment store {chosen}: {brief(error, 300)}") from error


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Hold the lock of a store in a folder: MLflow fails where two processes make one at once."""
    if "://" in uri:
        yield
        return
    folder = Path(uri)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(experiment: str, uri: str, folder: Path | None) -> Run:
    """Return the run whose id is stored in the folder, else a new one."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    store, artifacts = _store(uri)
    client = MlflowClient(tracking_uri=store)
    known = _remembered(folder)
    if known is not None:
        try:
            client.update_run(known, status="RUNNING")
        except MlflowException:  # the store is another one, or the run was deleted
            logger.warning("tracking.new_run reason=%s knows no run %s", uri, known)
        else:
            return Run(client, known)
    found = client.get_experiment_by_name(experiment)
    number = (
        found.experiment_id
        if found
        else client.create_experiment(experiment, artifact_location=artifacts)
    )
    name = folder.name if folder else None
    return Run(client, client.create_run(number, run_name=name).info.run_id)


def _store(uri: str) -> tuple[str, str | None]:
    """Return the store's address, and the artifact folder of a local store.

    uri: may be the path of a folder, which then contains a SQLite store.
    """
    if "://" in uri:
        _try_sqlite(uri)
        return uri, None
    folder = Path(uri).resolve()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    database = folder / "mlflow.db"
    if not database.exists():
        _make_database(database)
    return f"{SQLITE}{database}", (folder / "artifacts").as_uri()


def _make_database(path: Path) -> None:
    """Make a store's database, which takes MLflow seconds, under another name until it is whole.

    MLflow refuses a half-made one forever.
    """
    from mlflow.tracking import MlflowClient

    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"{SQLITE}{unfinished}").search_experiments(max_results=1)
    unfinished.replace(path)


def _try_sqlite(uri: str) -> None:
    """Raise sqlite3.Error if a SQLite store cannot be opened: MLflow would retry for minutes."""
    if uri.startswith(SQLITE):
        with closing(sqlite3.connect(uri.removeprefix(SQLITE))) as store:
            store.execute("PRAGMA schema_version")


def _remembered(folder: Path | None) -> str | None:
    try:
        return (folder / RUN_FILE).read_text().strip() if folder else None
    except FileNotFoundError:
        return None


def _is_known(folder: Path | None, run_id: str) -> bool:
    return _remembered(folder) == run_id


def _remember(folder: Path | None, run_id: str) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUN_FILE).write_text(run_id + "\n")


def _git_commit() -> str:
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + changes
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed wheel


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)[:MAX_VALUE_CHARS]
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of MLflow and its libraries about deprecations and retries."""
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _warn_once(event: str, text: str) -> None:
    if event not in _said:
        _said.add(event)
        logger.warning("%s %s", event, text)
