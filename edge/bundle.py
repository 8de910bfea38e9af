"""A model folder as one signed unit: `bundle.json` lists every file's hash and is signed.

`bundle.json.minisig` signs the bytes of `bundle.json`, which holds name, version, serial number and
the sha256 of every other file. So no file in the folder can be changed, added, removed or taken
from another version. The serial grows with every version of a model: a board that has run serial 7
refuses 6, even if it is signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge import lookup
from edge.errors import ModelError, brief
from edge.manifest import MANIFEST_NAME, FileName, Struct
from edge.signature import SUFFIX, PublicKey, SignatureError, verify

BUNDLE_NAME = "bundle.json"
SIGNATURE_NAME = BUNDLE_NAME + SUFFIX
MAX_BUNDLE_BYTES = 65_536


class FileFact(Struct, frozen=True, kw_only=True):
    """Hash and size of a file in the folder."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    bytes: Annotated[int, Meta(ge=0, le=lookup.MAX_FILE_BYTES)]


class Bundle(Struct, frozen=True, kw_only=True):
    """The signed content. serial: larger than that of every earlier version."""

    format: Literal[1] = 1
    name: FileName
    version: FileName
    serial: Annotated[int, Meta(ge=1)]
    files: Annotated[dict[FileName, FileFact], Meta(max_length=64)]

    def encode(self) -> bytes:
        """Return the canonical JSON that is stored and signed: sorted keys, indented, a newline."""
        text = msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2)
        return text + b"\n"


def describe(folder: Path, name: str, version: str, serial: int) -> Bundle:
    """Return the bundle of a folder's current files. Raises ModelError for folders in it."""
    files: dict[str, FileFact] = {}
    for path in sorted(folder.iterdir()):
        if path.name in (BUNDLE_NAME, SIGNATURE_NAME):
            continue
        if not path.is_file():
            raise ModelError(f"model {folder}: {path.name} is not a plain file; remove it")
        content = path.read_bytes()
        files[path.name] = fact_of(content)
    try:  # only `convert` checks names and sizes
        raw = {"name": name, "version": version, "serial": serial, "files": files}
        return msgspec.convert(msgspec.to_builtins(raw), Bundle)
    except msgspec.ValidationError as error:
        raise ModelError(f"model {folder}: {error}; rename it") from None


def fact_of(content: bytes) -> FileFact:
    """Return size and hash of a file's content."""
    return FileFact(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def decode(content: bytes, source: str) -> Bundle:
    """Return a bundle from its JSON; `source` names it. Raises ModelError when it is not valid."""
    try:
        bundle = msgspec.json.decode(content, type=Bundle)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = brief(error)
        raise ModelError(f"{source}: {BUNDLE_NAME} is damaged: {reason}; push it again") from None
    if MANIFEST_NAME not in bundle.files:
        raise ModelError(f"{source}: {BUNDLE_NAME} lists no {MANIFEST_NAME}; push it again")
    return bundle


def decode_signed(
    content: bytes, signature: bytes | None, trusted: Sequence[PublicKey], source: str
) -> Bundle:
    """Return a bundle after checking that one of the trusted keys signed it.

    Raises SignatureError otherwise; unverified content is never decoded.
    """
    if signature is None:
        raise SignatureError(f"{source}: not signed; push a new version with --sign-key")
    try:
        verify(content, signature, trusted)
    except SignatureError as error:
        raise SignatureError(f"{source}: {error}") from None
    return decode(content, source)


def check_folder(folder: Path, trusted: Sequence[PublicKey]) -> Bundle:
    """Return the bundle of a folder that is signed, complete and unchanged.

    Raises SignatureError naming the folder and what is wrong.
    """
    source = f"model {folder}"
    try:
        if not (folder / BUNDLE_NAME).exists():
            raise SignatureError(
                f"{source}: not signed, and models.trusted_keys is given; "
                "take it from the registry: edge models pull"
            )
        content = lookup.content(folder / BUNDLE_NAME)
        path = folder / SIGNATURE_NAME
        signature = lookup.content(path) if path.is_file() else None
        bundle = decode_signed(content, signature, trusted, source)
        _check_files(folder, bundle)
    except OSError as error:
        raise SignatureError(
            f"{source}: {error.filename}: {error.strerror}; pull it again"
        ) from None
    return bundle


def _check_files(folder: Path, bundle: Bundle) -> None:
    present = {path.name for path in folder.iterdir()} - {BUNDLE_NAME, SIGNATURE_NAME}
    if present != set(bundle.files):
        names = ", ".join(sorted(present ^ set(bundle.files)))
        raise SignatureError(f"model {folder}: missing or not signed: {names}; pull it again")
    for name, fact in bundle.files.items():
        if fact_of(lookup.content(folder / name)) != fact:
            raise SignatureError(f"model {folder}: {name} is not what was signed; pull it again")
