"""Ed25519 signatures of files, in minisign's format.

`minisign -S` writes the same signature files, and `minisign -V` checks them (prehashed, algorithm
`ED`). A public key is the second line of minisign's key file, 56 characters that begin with `RW`.
The signature covers the file's BLAKE2b-512 hash; a second one covers the first and the trusted
comment.
Needs `cryptography` (extra `registry`), which is imported when a signature is made or checked.
Source: https://jedisct1.github.io/minisign/, "Signature format" and "Public key format".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, ModelError, install_command

SUFFIX = ".minisig"
PUBLIC_SUFFIX = ".pub"
MAX_BYTES = 4096  # of a signature or key file
_KEY_ALGORITHM = b"Ed"
_PREHASHED = b"ED"
_ID_BYTES = 8
_KEY_BYTES = 32
_PEM_MARK = b"-----BEGIN "
_SIGNATURE_BYTES = 64


class SignatureError(ModelError):
    """A signature is missing or damaged, or belongs to an untrusted key or other content."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures. identity: 8 bytes that identify it in signatures."""

    identity: bytes
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Return the key from minisign's one-line form. Raises ConfigError when it is not one."""
        decoded = _decode_base64(text.strip())
        size = len(_KEY_ALGORITHM) + _ID_BYTES + _KEY_BYTES
        if decoded is None or len(decoded) != size or decoded[:2] != _KEY_ALGORITHM:
            raise ConfigError(
                f"trusted key {text.strip()[:60]!r}: not a minisign public key; "
                "give the second line of the .pub file"
            )
        return cls(decoded[2 : 2 + _ID_BYTES], decoded[2 + _ID_BYTES :])

    def text(self) -> str:
        """Return the one-line form."""
        return base64.b64encode(_KEY_ALGORITHM + self.identity + self.raw).decode()

    @property
    def name(self) -> str:
        """Return the identity as minisign shows it."""
        return self.identity[::-1].hex().upper()


class SecretKey:
    """A key that signs; keep its file off the boards."""

    def __init__(self, key: Any) -> None:
        """Wrap `cryptography`'s Ed25519PrivateKey."""
        self._key = key

    @classmethod
    def generate(cls) -> SecretKey:
        """Return a new random key."""
        return cls(_ed25519().Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path, password: bytes | None = None) -> SecretKey:
        """Return the key of a PEM file (PKCS 8). Raises ConfigError when it cannot be used."""
        ed25519 = _ed25519()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            content = path.read_bytes()
            if _PEM_MARK not in content:
                raise ConfigError(f"secret key {path}: not a PEM file; name keygen's, not its .pub")
            key = load_pem_private_key(content, password)
        except OSError as error:
            raise ConfigError(f"secret key {path}: {error.strerror}; make one: keygen") from None
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"secret key {path}: {error}; is the password right?") from None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ConfigError(f"secret key {path}: not an Ed25519 key; make one: keygen")
        return cls(key)

    def pem(self, password: bytes | None = None) -> bytes:
        """Return the key as PEM, encrypted when there is a password."""
        from cryptography.hazmat.primitives import serialization as form

        lock: Any = form.BestAvailableEncryption(password) if password else form.NoEncryption()
        return bytes(
            self._key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock),
        )

    @property
    def public(self) -> PublicKey:
        """Return the key that checks this one's signatures; its identity is a hash of it."""
        raw: bytes = self._key.public_key().public_bytes_raw()
        return PublicKey(hashlib.blake2b(raw, digest_size=_ID_BYTES).digest(), raw)

    def sign(self, content: bytes, comment: str) -> bytes:
        """Return the signature file of some content. comment: a line that is signed as well."""
        signature = self._key.sign(_hash(content))
        note = " ".join(comment.split())
        both = self._key.sign(signature + note.encode())
        line = base64.b64encode(_PREHASHED + self.public.identity + signature).decode()
        return (
            f"untrusted comment: signature from edge key {self.public.name}\n{line}\n"
            f"trusted comment: {note}\n{base64.b64encode(both).decode()}\n"
        ).encode()


def verify(content: bytes, signature_file: bytes, trusted: Iterable[PublicKey]) -> PublicKey:
    """Return the trusted key that signed some content.

    Raises SignatureError with the cause: damaged, no trusted key, other content.
    """
    identity, signature, comment, both = _read(signature_file)
    keys = [key for key in trusted if key.identity == identity]
    if not keys:
        raise SignatureError(
            f"signed by key {identity[::-1].hex().upper()}, which is not trusted here; "
            "take it from its signer and add it to models.trusted_keys"
        )
    for key in keys:
        if _is_valid(key, _hash(content), signature) and _is_valid(key, signature + comment, both):
            return key
    raise SignatureError("the signature is not of this content; it was changed after signing")


def parse_all(texts: Iterable[str]) -> tuple[PublicKey, ...]:
    """Return public keys from their one-line forms. Raises ConfigError when one is not a key."""
    return tuple(PublicKey.parse(text) for text in texts)


def _read(signature_file: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return key identity, signature, trusted comment and the signature over both."""
    lines = signature_file[:MAX_BYTES].decode("utf-8", "replace").split("\n")
    mark = "trusted comment: "
    if len(lines) < 4 or not lines[2].startswith(mark):
        raise SignatureError("the signature file is damaged or truncated; fetch it again")
    first, both = _decode_base64(lines[1]), _decode_base64(lines[3])
    size = len(_PREHASHED) + _ID_BYTES + _SIGNATURE_BYTES
    if first is None or both is None or len(first) != size or first[:2] != _PREHASHED:
        raise SignatureError("the signature file is damaged or truncated; fetch it again")
    start = 2 + _ID_BYTES
    return first[2:start], first[start:], lines[2].removeprefix(mark).encode(), both


def _is_valid(key: PublicKey, content: bytes, signature: bytes) -> bool:
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=64).digest()


def _decode_base64(text: str) -> bytes | None:
    """Return the bytes of canonical base64, None for any other text."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None


def _ed25519() -> Any:
    """Return the module of these keys; call it before any other import of `cryptography`.

    Raises ConfigError where that is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ConfigError(
            f"signatures need `cryptography`: {install_command('registry')}"
        ) from None
    return ed25519
