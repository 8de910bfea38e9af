"""The versions of a model on a board, and what the board remembers of them.

models_dir/color-64 -> .versions/color-64/1.3.0      what the daemon loads: a link
models_dir/.versions/color-64/<version>/             complete, verified, never changed
models_dir/.versions/color-64/state.json             what is on trial, what was before
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import msgspec
from msgspec import Meta

from edge import durable, model_store
from edge.errors import ModelError
from edge.manifest import FileName, Struct

VERSIONS_DIR = ".versions"
STATE_NAME = "state.json"
PARTIAL = ".partial-"  # begins the names of what is being made


def pulled_version(folder: Path) -> str | None:
    """Return the registry's version of a model folder, None for one that was not pulled.

    folder: without links, as `edge.lookup.real` returns it.
    """
    return folder.name if folder.parent.parent.name == VERSIONS_DIR else None


class State(Struct, frozen=True, kw_only=True):
    """What a board remembers of one model.

    serial: the largest that was active, and the hash of its bundle. previous: the version before,
    None when the model that ships with edge served. trial: the version with which no frame has been
    processed yet. starts: of the daemon, on trial. refused: versions that failed here.
    """

    serial: Annotated[int, Meta(ge=0)] = 0
    bundle_sha256: str = ""
    previous: FileName | None = None
    trial: FileName | None = None
    starts: Annotated[int, Meta(ge=0)] = 0
    refused: tuple[FileName, ...] = ()


class Shelf:
    """All versions of one model on this board."""

    def __init__(self, models_dir: Path, name: str) -> None:
        """Name the board's folder of models and the model; touches nothing."""
        self.name = name
        self.link = models_dir / name
        self.folder = models_dir / VERSIONS_DIR / name

    @property
    def active(self) -> str | None:
        """Return the version that is linked, None when the link is not ours, or out of reach."""
        try:
            target = self.link.readlink()
        except OSError:  # no link, too
            return None
        is_ours = target.parent == Path(VERSIONS_DIR) / self.name
        return target.name if is_ours else None

    def state(self) -> State:
        """Return what is remembered. Raises ModelError when its file cannot be read."""
        path = self.folder / STATE_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except msgspec.MsgspecError as error:
            raise ModelError(f"{path} is damaged: {error}; remove it and pull again") from None
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}; check models_dir") from None

    @property
    def previous(self) -> str | None:
        """Return the version before the active one, None when the shipped model is.

        What is remembered may be the active one itself: when that was pulled again in place of one
        on trial, or a pull was cut short. Raises ModelError as `state` does.
        """
        version = self.state().previous
        return version if version != self.active else None

    @property
    def has_way_back(self) -> bool:
        """Return whether there is a version before the active one, or one ships with edge.

        Raises ModelError as `state` does.
        """
        return self.previous is not None or model_store.is_shipped_name(self.name)

    def remember(self, state: State) -> None:
        """Write what is remembered, at once."""
        durable.replace(self.folder / STATE_NAME, msgspec.json.encode(state), is_synced=True)
        durable.sync_folder(self.folder)

    def switch(self, version: str | None) -> None:
        """Link a version, or none, at once."""
        if version is None:
            self.link.unlink(missing_ok=True)
        else:
            part = self.folder / f"{PARTIAL}link"
            part.unlink(missing_ok=True)
            part.symlink_to(Path(VERSIONS_DIR) / self.name / version)
            part.replace(self.link)
        durable.sync_folder(self.link.parent)

    @contextmanager
    def pulling(self) -> Iterator[None]:
        """Keep other pulls away; raises ModelError while there is one, or where it cannot write."""
        try:
            lock = self._lock("pull")
        except OSError as error:
            place = f"{error.filename}: {error.strerror}"
            raise ModelError(f"model {self.name}: {place}; check models_dir") from None
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ModelError(f"model {self.name}: being pulled already; try later") from None
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Wait for other changes of link and state, which take milliseconds."""
        with self._lock("state") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _lock(self, name: str) -> IO[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return (self.folder / f".{name}.lock").open("w")
