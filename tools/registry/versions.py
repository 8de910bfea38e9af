"""Writes to a registry: adds versions, sets their stages, removes them."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import msgspec

from edge import bundle, manifest, registry
from edge.bundle import Bundle
from edge.errors import ModelError
from edge.model_shelf import STATE_NAME
from edge.registry import (
    MAX_STAGES_BYTES,
    MAX_VERSION_BYTES,
    SERIALS_NAME,
    STAGES_NAME,
    VERSION_NAME,
    Envelope,
    Stage,
    Stages,
    Store,
)
from edge.signature import SecretKey
from tools import golden

HELD_BY_ONE: tuple[Stage, ...] = ("staging", "production")


def push(
    store: Store,
    folder: Path,
    key: SecretKey | None,
    *,
    version: str | None = None,
    is_to_be_staged: bool = False,
) -> Bundle:
    """Register a model folder as a new version and return its bundle.

    version: default: the manifest's. is_to_be_staged: whether it will be promoted next; nothing is
    registered if that requires a signature and there is no key. The folder is loaded and its golden
    picture checked before anything is written, so that no version is registered that boards would
    refuse. A version exists once its last object is written; of two concurrent pushes only one can
    write it, and no object is ever replaced. What an interrupted push wrote is reused by the next
    push of the same folder, and deleted by that of another folder; a whole version, by one with the
    same key as long as it was in no stage. Raises ModelError when the folder fails the
    checks, or the version exists otherwise or existed.
    """
    _check_golden(folder)
    described = manifest.read(folder)
    name = described.name
    new = bundle.describe(folder, name, version or described.version, 1)
    if new.version in (STAGES_NAME, STATE_NAME):
        raise ModelError(
            f"{name} {new.version}: registries or boards have a file of that name; take another"
        )
    if is_to_be_staged:
        _refuse_unsigned_stages(store, name, key)
    stages = registry.read_stages(store, name)
    if new.version in stages.removed:
        raise ModelError(f"{name} {new.version} was removed; versions are never given again")
    for one in registry.versions(store, name):
        if one.version == new.version:
            same = msgspec.structs.replace(new, serial=one.serial)
            made = store.get(registry.version_key(name, same.version), MAX_VERSION_BYTES)
            if new.version in stages.stages or made != _signed(same, key):
                raise ModelError(
                    f"{name} {new.version} is registered and cannot change; "
                    "use a new version number"
                )
            return same
    new = _with_serial(store, new)
    _upload(store, folder, new, key)
    return new


def promote(store: Store, name: str, version: str, stage: Stage, key: SecretKey | None) -> Stages:
    """Put a version into a stage and return all stages.

    Staging and production hold one version each: the previous one is archived. With a key, the
    version must be signed for these two stages, because the boards then accept only signed ones.
    Raises ModelError when the version does not exist or lacks that signature.
    """
    known = {one.version for one in registry.versions(store, name)}
    if version not in known:
        raise ModelError(f"{name} {version}: not in the registry; push it first")
    made_by = registry.version_key(name, version)
    is_for_boards = key is not None and stage in HELD_BY_ONE
    if is_for_boards and not _is_signed(store, made_by, MAX_VERSION_BYTES):
        raise ModelError(
            f"{name} {version} is not signed: boards would refuse it; "
            "push a new version with --sign-key"
        )
    before = registry.read_stages(store, name)
    stages = {
        one: "archived" if held == stage and stage in HELD_BY_ONE else held
        for one, held in before.stages.items()
    }
    changed = msgspec.structs.replace(
        before, revision=before.revision + 1, stages={**stages, version: stage}
    )
    return _write_stages(store, changed, key)


def remove(store: Store, name: str, version: str, key: SecretKey | None) -> None:
    """Delete a version; its number and serial are never reused.

    Raises ModelError when it does not exist or is in production.
    """
    before = registry.read_stages(store, name)
    if before.stages.get(version) == "production":
        raise ModelError(f"{name} {version} is in production; promote another one first")
    found = [one for one in registry.versions(store, name) if one.version == version]
    if not found:
        raise ModelError(f"{name} {version}: not in the registry")
    stages = {one: held for one, held in before.stages.items() if one != version}
    removed = {**before.removed, version: found[0].serial}
    changed = msgspec.structs.replace(
        before, revision=before.revision + 1, stages=stages, removed=removed
    )
    _write_stages(store, changed, key)
    # The version's own object first, so that nobody sees an incomplete version.
    for object_name in (VERSION_NAME, *store.names(f"{name}/{version}")):
        _delete(store, f"{name}/{version}/{object_name}")


def _delete(store: Store, key: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        store.delete(key)


def _check_golden(folder: Path) -> None:
    if manifest.read(folder).golden is None:
        raise ModelError(f"model {folder}: no golden picture; boards could not prove it")
    faults = golden.differences(folder)
    if faults:
        raise ModelError(f"model {folder}: {faults[0]}; package it again")


def _next_serial(store: Store, name: str) -> int:
    stages = registry.read_stages(store, name)
    taken = [one.serial for one in registry.versions(store, name)]
    return max([0, *taken, *stages.removed.values()]) + 1


def _with_serial(store: Store, new: Bundle) -> Bundle:
    """Return the bundle with a reserved serial; a resumed push reuses the one it reserved."""
    for serial in itertools.count(_next_serial(store, new.name)):
        numbered = msgspec.structs.replace(new, serial=serial)
        if _create(store, f"{new.name}/{SERIALS_NAME}/{serial}", numbered.encode()):
            break
    return numbered


def _create(store: Store, key: str, content: bytes) -> bool:
    """Create an object unless it exists; return whether it now has this content."""
    try:
        store.put(key, content, is_new=True)
    except FileExistsError:
        return store.get(key, len(content) + 1) == content
    return True


def _upload(store: Store, folder: Path, new: Bundle, key: SecretKey | None) -> None:
    """Write a version's files, then the object that makes it exist, unless it exists already."""
    for file, fact in new.files.items():
        content = (folder / file).read_bytes()
        if bundle.fact_of(content) != fact:
            raise ModelError(f"model {folder}: {file} changed meanwhile; push again")
        store.put(registry.file_key(new, file), content)
    made_by = registry.version_key(new.name, new.version)
    if not _create(store, made_by, _signed(new, key)):
        raise ModelError(
            f"{new.name} {new.version}: another push was first; use a new version number"
        )
    if new.version in registry.read_stages(store, new.name).removed:
        _delete(store, made_by)
        raise ModelError(
            f"{new.name} {new.version} was pushed and removed meanwhile; use a new version number"
        )
    _delete_leftovers(store, new)


def _signed(version: Bundle, key: SecretKey | None) -> bytes:
    """Return the content of that object; a key always makes the same signature."""
    comment = f"{version.name} {version.version} serial {version.serial}"
    return _envelope(version.encode(), comment, key)


def _delete_leftovers(store: Store, made: Bundle) -> None:
    """Delete objects that other, failed pushes of a now registered version left."""
    where = f"{made.name}/{made.version}"
    needed = {registry.file_key(made, file) for file in made.files}
    needed.add(registry.version_key(made.name, made.version))
    for key in (f"{where}/{object_name}" for object_name in store.names(where)):
        if key not in needed:
            _delete(store, key)


def _write_stages(store: Store, stages: Stages, key: SecretKey | None) -> Stages:
    _refuse_unsigned_stages(store, stages.name, key)
    text = msgspec.json.encode(stages, order="sorted")
    comment = f"{stages.name} stages revision {stages.revision}"
    store.put(f"{stages.name}/{STAGES_NAME}", _envelope(text, comment, key))
    return stages


def _envelope(text: bytes, comment: str, key: SecretKey | None) -> bytes:
    """Return a text with its signature, which is empty without a key, as JSON."""
    signature = key.sign(text, comment).decode() if key else ""
    return msgspec.json.encode(Envelope(text=text.decode(), signature=signature))


def _refuse_unsigned_stages(store: Store, name: str, key: SecretKey | None) -> None:
    if key is None and _is_signed(store, f"{name}/{STAGES_NAME}", MAX_STAGES_BYTES):
        raise ModelError(f"{name}: its stages are signed; give --sign-key")


def _is_signed(store: Store, key: str, limit: int) -> bool:
    """Return whether an envelope exists and has a signature; limit: its maximum size in bytes."""
    try:
        content = store.get(key, limit)
    except FileNotFoundError:
        return False
    return bool(msgspec.json.decode(content, type=Envelope).signature)
