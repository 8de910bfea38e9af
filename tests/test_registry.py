"""Versions of models in a registry: never changed, numbered, signed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("cryptography")

from edge import manifest, registry
from edge.errors import ModelError
from edge.model_shelf import STATE_NAME
from edge.registry import VERSION_NAME, Envelope
from edge.signature import SecretKey, SignatureError
from models import COLOR, change_manifest
from registered import Registry, golden_folder, with_wrong_golden
from tools.registry import versions


def fetch(signed_registry: Registry, version: str, folder: Path) -> Path:
    folder.mkdir()
    registry.fetch(signed_registry.store, COLOR, version, folder, signed_registry.trusted)
    return folder


def envelope(signed_registry: Registry, version: str) -> Envelope:
    return msgspec.json.decode(
        signed_registry.file(version, VERSION_NAME).read_bytes(), type=Envelope
    )


def test_pulled_version_equals_the_pushed_one(signed_registry: Registry, tmp_path: Path) -> None:
    signed_registry.push("1.0.0")
    folder = fetch(signed_registry, "1.0.0", tmp_path / "back")
    source = tmp_path / "sources" / "1.0.0" / COLOR
    for path in source.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_pushed_version_is_never_overwritten(signed_registry: Registry, tmp_path: Path) -> None:
    signed_registry.push("1.0.0")
    before = signed_registry.file("1.0.0", VERSION_NAME).read_bytes()
    other = golden_folder(tmp_path / "other", "1.0.0", licence="MIT")
    with pytest.raises(ModelError, match="cannot change"):
        versions.push(signed_registry.store, other, signed_registry.key)
    assert signed_registry.file("1.0.0", VERSION_NAME).read_bytes() == before


def test_push_that_was_stopped_before_its_promotion_resumes(
    signed_registry: Registry, tmp_path: Path
) -> None:
    made = signed_registry.push("1.0.0")
    store, folder = signed_registry.store, tmp_path / "sources" / "1.0.0" / COLOR
    assert versions.push(store, folder, signed_registry.key) == made
    assert [one.serial for one in registry.versions(store, COLOR)] == [1]
    for key in (None, SecretKey.generate()):
        with pytest.raises(ModelError, match="cannot change"):
            versions.push(store, folder, key)
    versions.promote(store, COLOR, "1.0.0", "archived", signed_registry.key)
    with pytest.raises(ModelError, match="cannot change"):  # its stage was decided
        versions.push(store, folder, signed_registry.key)


def test_one_of_two_simultaneous_pushes_wins(signed_registry: Registry, tmp_path: Path) -> None:
    store = signed_registry.store
    store.put("a/b/version.json", b"first", is_new=True)
    with pytest.raises(FileExistsError):
        store.put("a/b/version.json", b"second", is_new=True)
    assert store.get("a/b/version.json", 100) == b"first"


def test_folder_is_listed_in_order_without_partial_files(signed_registry: Registry) -> None:
    for name in ("b", "c", "a", ".part"):
        signed_registry.store.put(f"dog/{name}", b"")
    assert signed_registry.store.names("dog") == ["a", "b", "c"]
    assert signed_registry.store.names("dog/a") == signed_registry.store.names("cat") == []


def test_written_files_are_readable_by_others(signed_registry: Registry) -> None:
    """A registry on a share: boards read it as another user."""
    signed_registry.store.put("dog/a", b"")
    assert (signed_registry.folder / "registry" / "dog" / "a").stat().st_mode & 0o777 == 0o644


def test_deleting_a_missing_file_is_not_an_error_and_an_empty_folder_is_removed(
    signed_registry: Registry,
) -> None:
    for name in ("a", "b"):
        signed_registry.store.put(f"dog/{name}", b"")
    for _ in range(2):
        signed_registry.store.delete("dog/a")
    assert signed_registry.store.names("dog") == ["b"]
    signed_registry.store.delete("dog/b")
    assert signed_registry.store.names("") == []


WRITES = 5  # of a push: the serial, three files, what makes it a version


class OvertakenStore:
    """A store before whose n-th write something else happens, by default a push of 1.0.0."""

    def __init__(self, signed_registry: Registry, write: int = 1, happens: Any = None) -> None:
        self._registry = signed_registry
        self._left = write
        self._happens = happens or (lambda: self._registry.push("1.0.0"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry.store, name)

    def put(self, key: str, content: bytes, *, is_new: bool = False) -> None:
        self._left -= 1
        if self._left == 0:
            self._happens()
        self._registry.store.put(key, content, is_new=is_new)


def die() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_overtaken_push_changes_nothing(
    signed_registry: Registry, tmp_path: Path, write: int
) -> None:
    late = golden_folder(tmp_path / "other", "1.0.0", licence="MIT")
    with pytest.raises(ModelError, match="use a new version number"):
        versions.push(OvertakenStore(signed_registry, write), late, signed_registry.key)
    folder = fetch(signed_registry, "1.0.0", tmp_path / "back")
    assert manifest.read(folder).licence != "MIT"


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_version_removed_during_a_push_stays_removed(
    signed_registry: Registry, tmp_path: Path, write: int
) -> None:
    def given_and_removed() -> None:
        signed_registry.push("1.0.0")
        versions.remove(signed_registry.store, COLOR, "1.0.0", signed_registry.key)

    late = golden_folder(tmp_path / "other", "1.0.0", licence="MIT")
    with pytest.raises(ModelError, match="removed meanwhile"):
        versions.push(
            OvertakenStore(signed_registry, write, given_and_removed), late, signed_registry.key
        )
    assert registry.versions(signed_registry.store, COLOR) == []


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_version_of_a_killed_push_is_free(
    signed_registry: Registry, tmp_path: Path, write: int
) -> None:
    dies = golden_folder(tmp_path / "other", "1.0.0", licence="MIT")
    with pytest.raises(KeyboardInterrupt):
        versions.push(OvertakenStore(signed_registry, write, die), dies, signed_registry.key)
    made = signed_registry.push("1.0.0")
    folder = fetch(signed_registry, "1.0.0", tmp_path / "back")
    assert manifest.read(folder).licence != "MIT"
    stored = signed_registry.store.names(f"{COLOR}/1.0.0")
    assert len(stored) == len(made.files) + 1  # nothing is left of the other


def test_killed_push_can_be_repeated_with_another_key(
    signed_registry: Registry, tmp_path: Path
) -> None:
    folder = golden_folder(tmp_path / "same", "1.0.0")
    with pytest.raises(KeyboardInterrupt):
        versions.push(OvertakenStore(signed_registry, WRITES, die), folder, SecretKey.generate())
    assert versions.push(signed_registry.store, folder, signed_registry.key).serial == 1
    fetch(signed_registry, "1.0.0", tmp_path / "back")


def test_removed_version_leaves_nothing(signed_registry: Registry) -> None:
    signed_registry.push("1.0.0")
    signed_registry.store.put(f"{COLOR}/1.0.0/of-a-late-push", b"")
    versions.remove(signed_registry.store, COLOR, "1.0.0", signed_registry.key)
    assert signed_registry.store.names(f"{COLOR}/1.0.0") == []


def test_simultaneous_pushes_get_different_serials(
    signed_registry: Registry, tmp_path: Path
) -> None:
    late = golden_folder(tmp_path, "0.9.0")  # by name the first, by serial the second
    assert versions.push(OvertakenStore(signed_registry), late, signed_registry.key).serial == 2
    assert [one.serial for one in registry.versions(signed_registry.store, COLOR)] == [1, 2]


def test_stopped_push_resumes_with_its_serial(signed_registry: Registry) -> None:
    signed_registry.push("1.0.0")
    for name in (VERSION_NAME, "model.tflite"):
        signed_registry.file("1.0.0", name).unlink()
    again = golden_folder(signed_registry.folder / "again", "1.0.0")
    assert versions.push(signed_registry.store, again, signed_registry.key).serial == 1
    fetch(signed_registry, "1.0.0", signed_registry.folder / "back")


def test_full_disk_leaves_no_partial_file(
    signed_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        signed_registry.store.put("a/b/version.json", b"content")
    assert list((signed_registry.folder / "registry" / "a" / "b").iterdir()) == []


def test_incomplete_push_is_not_a_version(signed_registry: Registry) -> None:
    signed_registry.push("1.0.0")
    signed_registry.file("1.0.0", VERSION_NAME).unlink()
    assert registry.versions(signed_registry.store, COLOR) == []
    again = golden_folder(signed_registry.folder / "again", "1.0.0")
    assert versions.push(signed_registry.store, again, signed_registry.key).serial == 1


def test_serials_grow_and_removed_ones_are_not_reused(signed_registry: Registry) -> None:
    assert [signed_registry.push("1.0.0").serial, signed_registry.push("1.1.0").serial] == [1, 2]
    versions.remove(signed_registry.store, COLOR, "1.1.0", signed_registry.key)
    assert signed_registry.push("1.2.0").serial == 3
    assert [one.version for one in registry.versions(signed_registry.store, COLOR)] == [
        "1.0.0",
        "1.2.0",
    ]
    again = golden_folder(signed_registry.folder / "again", "1.1.0")
    with pytest.raises(ModelError, match="was removed"):
        versions.push(signed_registry.store, again, signed_registry.key)


def test_missing_version_cannot_be_fetched(signed_registry: Registry, tmp_path: Path) -> None:
    signed_registry.push("1.0.0")
    with pytest.raises(ModelError, match=r"2\.0\.0: not in the registry; see"):
        fetch(signed_registry, "2.0.0", tmp_path / "back")


def test_model_that_does_not_reproduce_its_golden_result_is_not_registered(
    signed_registry: Registry, tmp_path: Path
) -> None:
    folder = with_wrong_golden(golden_folder(tmp_path, "1.0.0"))
    with pytest.raises(ModelError, match=r"expected 0\.091"):
        versions.push(signed_registry.store, folder, signed_registry.key)
    assert signed_registry.store.names("") == []


@pytest.mark.parametrize("name", [registry.STAGES_NAME, STATE_NAME])
def test_version_named_like_a_file_of_registry_or_board_is_refused(
    signed_registry: Registry, tmp_path: Path, name: str
) -> None:
    folder = golden_folder(tmp_path, "1.0.0")
    with pytest.raises(ModelError, match="have a file of that name; take another"):
        versions.push(signed_registry.store, folder, signed_registry.key, version=name)
    assert signed_registry.store.names("") == []


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff"])
def test_damaged_version_is_repaired_as_the_error_suggests(
    signed_registry: Registry, tmp_path: Path, content: bytes
) -> None:
    source = golden_folder(tmp_path, "1.0.0")
    made = versions.push(signed_registry.store, source, signed_registry.key)
    key = f"{COLOR}/1.0.0/{VERSION_NAME}"
    signed_registry.store.put(key, content)
    with pytest.raises(
        SignatureError, match=r"is damaged: .*; take it from a backup, or delete it and push the"
    ):
        registry.versions(signed_registry.store, COLOR)
    signed_registry.store.delete(key)
    assert versions.push(signed_registry.store, source, signed_registry.key) == made


def test_model_without_a_golden_picture_is_not_registered(
    signed_registry: Registry, tmp_path: Path
) -> None:
    folder = change_manifest(golden_folder(tmp_path, "1.0.0"), golden=None)
    with pytest.raises(ModelError, match="no golden picture; boards could not prove it"):
        versions.push(signed_registry.store, folder, signed_registry.key)
    assert signed_registry.store.names("") == []


@pytest.mark.parametrize("name", ["model.tflite", "manifest.json", "golden.png", VERSION_NAME])
def test_tampered_file_is_refused(signed_registry: Registry, tmp_path: Path, name: str) -> None:
    signed_registry.push("1.0.0")
    path = signed_registry.file("1.0.0", name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SignatureError):
        fetch(signed_registry, "1.0.0", tmp_path / "back")


@pytest.mark.parametrize("name", ["model.tflite", VERSION_NAME])
def test_truncated_file_is_refused(signed_registry: Registry, tmp_path: Path, name: str) -> None:
    signed_registry.push("1.0.0")
    path = signed_registry.file("1.0.0", name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SignatureError):
        fetch(signed_registry, "1.0.0", tmp_path / "back")


def test_unsigned_and_wrongly_signed_versions_are_refused(
    signed_registry: Registry, tmp_path: Path
) -> None:
    signed_registry.push("1.0.0")
    mallory = Registry(signed_registry.folder, SecretKey.generate())
    mallory.push("6.6.6")
    with pytest.raises(SignatureError, match="not trusted"):
        fetch(signed_registry, "6.6.6", tmp_path / "other key")
    unsigned = msgspec.structs.replace(envelope(signed_registry, "1.0.0"), signature="")
    signed_registry.file("1.0.0", VERSION_NAME).write_bytes(msgspec.json.encode(unsigned))
    with pytest.raises(SignatureError, match="not signed"):
        fetch(signed_registry, "1.0.0", tmp_path / "unsigned")


def test_version_under_another_name_is_refused(signed_registry: Registry, tmp_path: Path) -> None:
    signed_registry.push("1.0.0")
    signed_registry.push("1.1.0")
    content = signed_registry.file("1.0.0", VERSION_NAME).read_bytes()
    signed_registry.file("1.1.0", VERSION_NAME).write_bytes(content)
    with pytest.raises(SignatureError, match=f"1.1.0: it is {COLOR} 1.0.0; somebody moved it"):
        fetch(signed_registry, "1.1.0", tmp_path / "back")
    folder = signed_registry.folder / "registry"
    (folder / COLOR).rename(folder / "other")
    with pytest.raises(SignatureError, match=f"other 1.0.0: it is {COLOR} 1.0.0; somebody moved"):
        registry.fetch(
            signed_registry.store, "other", "1.0.0", tmp_path / "back", signed_registry.trusted
        )
