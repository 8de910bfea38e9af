"""Reads a registry of model versions: a folder, or a bucket that fsspec reaches (`s3://…`).

    <name>/<version>/<file>.<sha256>   the model folder's files
    <name>/<version>/version.json      its bundle and the signature of that
    <name>/stages.json                 which version is in staging, in production, archived
    <name>/.serials/<n>                the bundle for which the serial n was taken

A version is there once its `version.json` is, which is written last; it never changes afterwards.
Files are named by the hash of their content, so what a killed push leaves disturbs no later one.
`stages.json` is one object, so a promotion happens at once; it is signed, too, and has a revision.
`edge-tools registry` writes it; a bucket's address and login are read from AWS's usual variables.
Buckets need the extra `registry`, imported when one is opened.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from edge import bundle, durable, lookup
from edge.bundle import Bundle
from edge.errors import NO_ROOM, EdgeError, ModelError, UnavailableError, brief, install_command
from edge.manifest import FileName, Struct
from edge.signature import PublicKey, SignatureError, verify

Stage = Literal["none", "staging", "production", "archived"]
STAGES_NAME = "stages.json"
VERSION_NAME = "version.json"
SERIALS_NAME = ".serials"
MAX_STAGES_BYTES = 1_048_576
MAX_VERSION_BYTES = 4 * bundle.MAX_BUNDLE_BYTES  # quoted in JSON, and signed
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 20  # s3fs tries five times, each time ATTEMPTS times
ATTEMPTS = 2


class Stages(Struct, frozen=True, kw_only=True):
    """Which version is where; versions that are not named are in no stage.

    removed: versions that were deleted; their names and serials are never given again.
    """

    name: FileName
    revision: Annotated[int, Meta(ge=0)] = 0
    stages: dict[FileName, Stage] = msgspec.field(default_factory=dict)
    removed: dict[FileName, int] = msgspec.field(default_factory=dict)


class Envelope(Struct, frozen=True, kw_only=True):
    """A signed text in one object. signature: a minisign file's text, empty when not signed."""

    text: str
    signature: str = ""


class Source(Protocol):
    """Objects by key (`name/version/file`), as a board reads them."""

    def get(self, key: str, limit: int) -> bytes:
        """Return at most `limit` bytes of an object. Raises FileNotFoundError."""


class Store(Source, Protocol):
    """Objects by key, as `edge-tools registry` lists and changes them."""

    def names(self, key: str) -> list[str]:
        """Return what lies directly under a key, sorted; empty when there is nothing."""

    def put(self, key: str, content: bytes, *, is_new: bool = False) -> None:
        """Write an object at once. Raises FileExistsError for `is_new` where there is one."""

    def delete(self, key: str) -> None:
        """Remove an object."""


class FolderStore:
    """A registry in a folder, such as a network share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str, limit: int) -> bytes:
        """Return at most `limit` bytes of a file."""
        with (self._root / key).open("rb") as file:
            return file.read(limit)

    def names(self, key: str) -> list[str]:
        """Return a folder's entries, without those that are being written."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            entries = (path.name for path in (self._root / key).iterdir())
            return sorted(name for name in entries if not name.startswith("."))
        return []

    def put(self, key: str, content: bytes, *, is_new: bool = False) -> None:
        """Write a file: it has the whole content, or what it had before."""
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not `durable.replacing`: several may publish at once, and `is_new` must not replace.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            part = Path(file.name)
        try:
            durable.write(part, content)
            part.chmod(0o644)
            if is_new:
                os.link(part, path)
            else:
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove a file, and its folder when it was the last."""
        path = self._root / key
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


class BucketStore:
    """A registry in whatever fsspec reaches; a bucket's writes are atomic by themselves."""

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root.rstrip("/")

    def get(self, key: str, limit: int) -> bytes:
        """Return at most `limit` bytes of an object."""
        return bytes(self._files.cat_file(f"{self._root}/{key}", start=0, end=limit))

    def names(self, key: str) -> list[str]:
        """Return the last parts of the keys directly under one."""
        self._files.invalidate_cache()
        try:
            entries = self._files.ls(f"{self._root}/{key}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def put(self, key: str, content: bytes, *, is_new: bool = False) -> None:
        """Write an object; `is_new` is S3's `If-None-Match: *`."""
        mode = "create" if is_new else "overwrite"
        self._files.pipe_file(f"{self._root}/{key}", content, mode=mode)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._files.rm_file(f"{self._root}/{key}")


def open_store(address: str, *, is_new: bool = False) -> Store:
    """Return the store at a folder's path or an address such as `s3://bucket/models`.

    is_new: the folder need not exist yet.
    Raises ModelError when what the address needs is not installed, or it is of no kind we know or
    has a login, UnavailableError for a folder that is not there.
    """
    scheme, mark, root = address.partition("://")
    if not mark:
        folder = lookup.expanded(address, ModelError)
        if not is_new and not lookup.is_folder(folder):
            raise UnavailableError(f"registry {address}: no such folder; is it mounted?")
        return FolderStore(folder)
    if "@" in root.partition("/")[0]:  # errors would show it in pieces
        raise ModelError(f"registry {scheme}://…@…: no login here; use AWS's usual variables")
    if scheme in ("http", "https"):  # lists nothing and keeps no limit of size
        raise ModelError(f"registry {address}: not over HTTP; name a folder or s3://bucket/models")
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"total_max_attempts": ATTEMPTS},
    }
    options: dict[str, Any] = {"config_kwargs": limits} if scheme == "s3" else {}
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
        inspect.signature(kind.__init__).bind(None, **options)  # a half-made one complains, too
        return BucketStore(fsspec.filesystem(scheme, **options), root)
    except (ImportError, ValueError) as error:
        raise ModelError(f"registry {address}: {error}; {install_command('registry')}") from None
    except Exception as error:  # of what has to be told more than an address
        raise ModelError(
            f"registry {address}: {error}; name a folder or s3://bucket/models"
        ) from error


@contextlib.contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn what a store raises inside the block into one line that names the registry."""
    try:
        yield
    except (EdgeError, ImportError):
        raise
    except Exception as error:  # every file system has exceptions of its own
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            place = f"{error.filename}: " if error.filename else ""
            text = f"{place}{os.strerror(error.errno)}; make room and start again"
            raise UnavailableError(f"registry {address}: {text}") from error
        reason = brief(f"{type(error).__name__}: {error}")
        raise UnavailableError(f"registry {address}: {reason}; check address and login") from error


def versions(store: Store, name: str) -> list[Bundle]:
    """Return a model's versions by serial, hashes unchecked."""
    found = []
    for version in store.names(name):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            text = _read_version(store, name, version).text
            found.append(bundle.decode(text.encode(), f"{name} {version}"))
    return sorted(found, key=lambda one: one.serial)


def read_stages(store: Source, name: str, trusted: Sequence[PublicKey] | None = None) -> Stages:
    """Return a model's stages. trusted: keys one of which must have signed them; None: any.

    Raises SignatureError, or ModelError when they are damaged.
    """
    key = f"{name}/{STAGES_NAME}"
    try:
        content = store.get(key, MAX_STAGES_BYTES)
    except (FileNotFoundError, NotADirectoryError):  # also where `name` is some other file
        return Stages(name=name)
    try:
        envelope = msgspec.json.decode(content, type=Envelope)
        if trusted is not None:
            verify(envelope.text.encode(), envelope.signature.encode(), trusted)
        stages = msgspec.json.decode(envelope.text, type=Stages)
    except SignatureError as error:
        raise SignatureError(f"{key}: {error}; promote with --sign-key") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        fix = "take it from a backup, or delete it and promote again"
        raise ModelError(f"{key} is damaged: {error}; {fix}") from None
    if stages.name != name:
        raise SignatureError(f"{key}: it is of model {stages.name}; somebody moved it")
    return stages


def choose(stages: Stages, stage: Stage) -> str:
    """Return the version in a stage. Raises ModelError when there is none."""
    for version, held in stages.stages.items():
        if held == stage:
            return version
    if not stages.stages:
        raise ModelError(
            f"model {stages.name}: the registry has no version of it in a stage; "
            "check name and address, or promote one"
        )
    raise ModelError(f"model {stages.name}: no version in {stage}; promote one, or name a version")


def fetch(
    store: Source, name: str, version: str, folder: Path, trusted: Sequence[PublicKey] | None
) -> Bundle:
    """Download a version into an empty folder and return its bundle.

    trusted: keys one of which must have signed it; None takes it unsigned. Every file is compared
    with its hash before it is written, and is on disk when this returns.
    Raises ModelError when there is no such version, or it is not what was signed.
    """
    source = f"{name} {version}"
    try:
        envelope = _read_version(store, name, version)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{source}: not in the registry; see edge-tools registry list") from None
    content, signature = envelope.text.encode(), envelope.signature.encode() or None
    if trusted is None:
        found = bundle.decode(content, source)
    else:
        found = bundle.decode_signed(content, signature, trusted, source)
    if (found.name, found.version) != (name, version):
        raise SignatureError(f"{source}: it is {found.name} {found.version}; somebody moved it")
    for file, fact in found.files.items():
        durable.write(folder / file, _checked(store, file_key(found, file), fact))
    durable.write(folder / bundle.BUNDLE_NAME, content)
    if signature is not None:
        durable.write(folder / bundle.SIGNATURE_NAME, signature)
    return found


def file_key(version: Bundle, file: str) -> str:
    """Return the key of a version's file."""
    return f"{version.name}/{version.version}/{file}.{version.files[file].sha256}"


def version_key(name: str, version: str) -> str:
    """Return the key of the object that makes a version exist."""
    return f"{name}/{version}/{VERSION_NAME}"


def _read_version(store: Source, name: str, version: str) -> Envelope:
    key = version_key(name, version)
    content = store.get(key, MAX_VERSION_BYTES)
    try:
        return msgspec.json.decode(content, type=Envelope)
    except (msgspec.MsgspecError, UnicodeError) as error:
        fix = "take it from a backup, or delete it and push the same folder again"
        raise SignatureError(f"{key} is damaged: {error}; {fix}") from None


def _checked(store: Source, key: str, fact: bundle.FileFact) -> bytes:
    try:
        # S3 has no range of an empty object.
        content = store.get(key, fact.bytes + 1) if fact.bytes else b""
    except FileNotFoundError:
        raise ModelError(f"{key}: missing in the registry; push the version again") from None
    if bundle.fact_of(content) != fact:
        raise SignatureError(f"{key}: not what its bundle says; it was changed or cut short")
    return content
