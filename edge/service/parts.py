"""Builds the parts that a reload replaces: models, governor and pipelines of one config."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge import lookup, model_store, model_update, signature
from edge.budget import Governor
from edge.color import ColorModel
from edge.config import Config
from edge.detector import Detector
from edge.errors import ConfigError, ModelError
from edge.interpreter import Interpreter
from edge.messages import ModelInfo
from edge.model_shelf import Shelf, pulled_version
from edge.pipeline import Models, Pipeline, Thresholds, check_labels, thresholds_of, warm_up

logger = logging.getLogger(__name__)

WARM_UP_SIZE = (640, 480)
MIN_SAVING = 0.1  # of the detector's time; less is within what equal models differ by


@dataclass(slots=True)
class Parts:
    """The models, governor and pipelines of one config.

    interpreters: loaded models by role. pipelines: by camera; all use these models.
    pulled: the version on each shelf when they were loaded.
    has_begun: they were given a frame. is_confirmed: they have processed one, so a pulled model's
        trial is over.
    """

    config: Config
    interpreters: dict[str, Interpreter]
    governor: Governor
    pipelines: dict[str, Pipeline]
    thresholds: Thresholds
    pulled: dict[Shelf, str | None]
    has_begun: bool = False
    is_confirmed: bool = False

    def begin_frame(self) -> None:
        """Count what the first frame does to the daemon against pulled models on trial."""
        if not self.has_begun:
            self.has_begun = True
            model_update.begin_frame(self.pulled)

    def confirm_models(self) -> None:
        """End the trial of pulled models: they have processed a frame."""
        if not self.is_confirmed:
            self.is_confirmed = True
            model_update.confirm(self.pulled)

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Return the classes that the config enables, by camera."""
        settings = self.config.detector.labels
        known = self.interpreters["detector"].manifest.labels
        enabled = [label for label in known if label not in settings or settings[label].enabled]
        return {
            name: tuple(label for label in enabled if label in (camera.labels or enabled))
            for name, camera in self.config.cameras.items()
        }

    def set_thresholds(self, thresholds: Thresholds) -> None:
        """Use other thresholds from the next frame on."""
        self.thresholds = thresholds
        models = _models(self.interpreters, thresholds)
        for pipeline in self.pipelines.values():
            pipeline.set_thresholds(thresholds, models)


def build_parts(config: Config, track_ids: Iterator[int] | None = None) -> Parts:
    """Return loaded models and warm pipelines; versions on trial that fail are rolled back.

    track_ids: of all cameras' new tracks; each camera counts its own by default.
    Raises ModelError when a model is missing or contradicts its manifest, ConfigError when the
    config names classes that the detector does not have, or its two detectors differ in theirs.
    """
    active = {shelf: shelf.active for shelf in shelves_of(config)}
    try:
        return _build(config, track_ids)
    except (ModelError, ConfigError) as error:
        if any(shelf.active != version for shelf, version in active.items()):
            # A pull came in between: it removes what is on trial, and its version was not tried.
            return build_parts(config, track_ids)
        trusted = signature.parse_all(config.models.trusted_keys)
        tried = model_update.give_up_trials([*active], str(error), trusted)
        if not tried:
            raise
    try:
        return _build(config, track_ids)
    except (ModelError, ConfigError):
        model_update.try_again(tried)
        raise


def shelves_of(config: Config) -> list[Shelf]:
    """Return the shelves that hold pulled versions of the config's models."""
    models_dir = Path(config.models_dir) if config.models_dir else None
    names = config.models_by_role().values()
    return [Shelf(models_dir, name) for name in names if models_dir and "/" not in name]


def _build(config: Config, track_ids: Iterator[int] | None) -> Parts:
    pulled = {shelf: shelf.active for shelf in shelves_of(config)}
    interpreters = load_interpreters(config)
    models = build_models(interpreters, config)
    governor = Governor(config.budget.frame_ms, time.monotonic)
    ms = warm(models, governor)
    if not is_saving(ms):
        detector_ms, faster_ms = ms["detector"], ms["faster_detector"]
        logger.warning("model.not_faster detector_ms=%.1f faster_ms=%.1f", detector_ms, faster_ms)
    pipelines = {
        name: Pipeline(camera, config, models, governor, time.monotonic, track_ids=track_ids)
        for name, camera in config.cameras.items()
    }
    return Parts(config, interpreters, governor, pipelines, thresholds_of(config), pulled)


def warm(models: Models, governor: Governor) -> dict[str, float]:
    """Run the models until they are warm; return the shortest time of each stage, milliseconds."""
    width, height = WARM_UP_SIZE
    gray = np.full((height, width, 3), 114, dtype=np.uint8)
    return warm_up(models, governor, time.monotonic, gray)


def is_saving(ms: Mapping[str, float]) -> bool:
    """Return whether `detector.faster_model`, where there is one, saves time; ms: by stage."""
    return ms.get("faster_detector", 0.0) < (1 - MIN_SAVING) * ms["detector"]


def load_interpreters(config: Config) -> dict[str, Interpreter]:
    """Return the loaded models by role, see `Config.models_by_role`.

    Raises ModelError when a model is missing, contradicts its manifest, or is not signed by a key
    that the config trusts; ConfigError when such a key is not valid.
    """
    trusted = signature.parse_all(config.models.trusted_keys)
    models_dir = _models_dir(config)
    interpreters = {}
    for role, model in config.models_by_role().items():
        threads = (config.color if role == "color" else config.detector).threads
        # One version throughout, even if a pull changes the link meanwhile.
        folder = lookup.real(model_store.find(model, models_dir))
        model_update.refuse_unsigned(folder, trusted)
        interpreters[role] = Interpreter.load(folder, threads=threads)
    return interpreters


def _models_dir(config: Config) -> str | None:
    """Return the board's own folder of models, None before the first pull has made it."""
    path = config.models_dir
    if path is None or config.models.registry is None or os.path.lexists(path):
        return path
    if lookup.why_hidden(Path(path)):  # it may be there
        return path
    logger.warning("model.none_pulled models_dir=%s", path)
    return None


def build_models(interpreters: dict[str, Interpreter], config: Config) -> Models:
    """Return the stages that use the loaded models.

    Raises ConfigError when the config names classes that the detector does not have, or the faster
    one has others.
    """
    known = interpreters["detector"].manifest.labels
    check_labels(config, known)
    faster = interpreters.get("faster_detector")
    if faster and {*faster.manifest.labels} != {*known}:
        raise ConfigError(
            f"detector.faster_model: {faster.manifest.name} finds "
            f"{', '.join(faster.manifest.labels)}, but {config.detector.model} {', '.join(known)}; "
            "name a model for the same classes"
        )
    return _models(interpreters, thresholds_of(config))


def _models(interpreters: dict[str, Interpreter], thresholds: Thresholds) -> Models:
    detectors = {
        role: Detector(interpreter, min_score=thresholds.lowest())
        for role, interpreter in interpreters.items()
        if role != "color"
    }
    color = interpreters.get("color")
    return Models(detectors, ColorModel(color) if color else None)


def model_infos(interpreters: dict[str, Interpreter]) -> dict[str, ModelInfo]:
    """Return the part of `info` about the loaded models."""
    return {
        role: ModelInfo(
            name=interpreter.manifest.name,
            version=interpreter.manifest.version,
            sha256=interpreter.manifest.sha256,
            integer_only=interpreter.manifest.certificate.integer_only,
            runtime=interpreter.runtime,
            pulled=pulled_version(interpreter.folder),
        )
        for role, interpreter in interpreters.items()
    }
