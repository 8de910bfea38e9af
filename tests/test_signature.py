"""Signatures are valid for their content and key only; minisign agrees."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.signature import PublicKey, SecretKey, SignatureError, verify

KEY, OTHER = SecretKey.generate(), SecretKey.generate()
CONTENT = b"hash of a model"
SIGNED = KEY.sign(CONTENT, "model color-64 1.0.0")


def test_signature_names_the_key_that_made_it() -> None:
    for signed in (SIGNED, SIGNED.rstrip(b"\n")):
        assert verify(CONTENT, signed, [OTHER.public, KEY.public]) == KEY.public


def test_missing_library_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'edge-camera\[registry\]'"):
        verify(CONTENT, SIGNED, [KEY.public])


def test_other_content_is_refused() -> None:
    with pytest.raises(SignatureError, match="not of this content"):
        verify(CONTENT + b" ", SIGNED, [KEY.public])


def test_unknown_key_is_named() -> None:
    with pytest.raises(SignatureError, match=KEY.public.name):
        verify(CONTENT, SIGNED, [OTHER.public])


def test_key_with_the_id_of_another_is_refused() -> None:
    forged = PublicKey(KEY.public.identity, OTHER.public.raw)
    with pytest.raises(SignatureError, match="not of this content"):
        verify(CONTENT, SIGNED, [forged])


def test_changed_comment_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify(CONTENT, SIGNED.replace(b"1.0.0", b"2.0.0"), [KEY.public])


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_any_changed_signed_byte_is_refused(place: int, change: int) -> None:
    changed = SIGNED[:place] + bytes([SIGNED[place] ^ change]) + SIGNED[place + 1 :]
    if place < SIGNED.index(b"\n"):
        return  # the untrusted comment is not signed
    with pytest.raises(SignatureError):
        verify(CONTENT, changed, [KEY.public])


@given(st.integers(0, len(SIGNED) - 2))
def test_truncated_signature_is_refused(length: int) -> None:
    with pytest.raises(SignatureError):
        verify(CONTENT, SIGNED[:length], [KEY.public])


def test_key_file_opens_only_with_its_password(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(KEY.pem(b"secret"))
    assert SecretKey.read(path, b"secret").public == KEY.public
    for wrong in (None, b"other"):
        with pytest.raises(ConfigError, match="password"):
            SecretKey.read(path, wrong)


@pytest.mark.parametrize(
    "text", ["", "RWQ", "not base64!", pytest.param(KEY.public.text()[:-4], id="cut")]
)
def test_damaged_public_key_is_a_one_line_error(text: str) -> None:
    with pytest.raises(ConfigError, match="minisign public key"):
        PublicKey.parse(text)


def test_public_key_in_place_of_the_secret_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key.pem.pub"
    file.write_text(f"untrusted comment: x\n{SecretKey.generate().public.text()}\n")
    with pytest.raises(ConfigError, match=r"not a PEM file; name keygen's, not its \.pub$"):
        SecretKey.read(file)


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_minisign_accepts_our_signature_and_we_accept_its(tmp_path: Path) -> None:
    def minisign(*words: str) -> int:
        return subprocess.run(
            ["minisign", *words], cwd=tmp_path, capture_output=True, check=False
        ).returncode

    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / "file.minisig").write_bytes(SIGNED)
    assert minisign("-V", "-m", "file", "-P", KEY.public.text()) == 0
    assert minisign("-V", "-m", "file", "-P", OTHER.public.text()) != 0
    assert minisign("-G", "-W", "-p", "their.pub", "-s", "their.key") == 0
    assert minisign("-S", "-H", "-m", "file", "-s", "their.key") == 0
    theirs = PublicKey.parse((tmp_path / "their.pub").read_text().splitlines()[1])
    assert verify(CONTENT, (tmp_path / "file.minisig").read_bytes(), [theirs]) == theirs
