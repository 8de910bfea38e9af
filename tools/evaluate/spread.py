"""Runs a detector on a set in worker processes or on Dask; each worker loads the model once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from edge.detector import Detector
from edge.interpreter import Interpreter
from edge.values import Detection, Image
from tools import parallel
from tools.dataset import Dataset, Picture
from tools.evaluate import kept
from tools.evaluate.accuracy import MIN_SCORE, collect_picture
from tools.evaluate.subjects import Options, Subject

FEW_PICTURES = 64  # below this, starting processes takes longer than the work


def collect(
    subject: Subject,
    options: Options,
    data: Dataset,
    *,
    workers: int,
    dask: str | None,
    keep: Path | None = None,
) -> list[dict[str, Any]]:
    """Return COCO result dicts of every picture, in the set's order.

    keep: folder in which each picture's results are saved; a later call reuses them.
    workers, dask: see `tools.parallel.run_tasks`. Subjects without a model folder, and small sets,
    run in this process. Raises InputError for a picture that cannot be read, ModelError, and
    WorkerError when a worker dies or no scheduler answers.
    """
    detect: Callable[[Picture], list[dict[str, Any]]]
    if subject.folder is None or (dask is None and len(data.pictures) < FEW_PICTURES):
        detect, workers, dask = partial(collect_picture, subject.detect, data.labels), 1, None
    else:
        model = (str(subject.folder.resolve()), options, f"{subject.digest} {[*subject.labels]}")
        detect = partial(_detect, model, data.labels)
    path = None if keep is None else keep / kept.name_of(subject, options, data)
    log = kept.ResultLog(path, data.pictures)
    left = [index for index in range(len(data.pictures)) if index not in log.found]
    outcomes = parallel.run_tasks(
        detect,
        [data.pictures[index] for index in left],
        workers=workers,
        dask=dask,
        title=subject.name,
    )
    with closing(outcomes):
        for done in outcomes:
            if done.error is not None:
                raise done.error
            log.add(left[done.index], done.result or [])
    return [item for index in sorted(log.found) for item in log.found[index]]


def _detect(
    model: tuple[str, Options, str], labels: dict[int, str], picture: Picture
) -> list[dict[str, Any]]:
    return collect_picture(_loaded(*model), labels, picture)


@parallel.once_per_thread  # models are measured one after the other
def _loaded(folder: str, options: Options, _digest: str) -> Callable[[Image], list[Detection]]:
    loaded = Interpreter.load(Path(folder), xnnpack=options.xnnpack)
    return Detector(loaded, min_score=MIN_SCORE).detect
