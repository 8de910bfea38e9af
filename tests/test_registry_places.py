"""Locations of a registry: a folder, a bucket; and invalid ones."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from edge import manifest, registry
from edge.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE
from edge.registry import VERSION_NAME
from edge.signature import PublicKey
from models import COLOR
from mosquitto import free_port
from registered import golden_folder
from tools.cli import main
from waiting import is_listening, wait_until


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real S3 server: moto's, as a process of its own."""
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    server = subprocess.Popen(
        [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: is_listening(port), 60)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("models")
        yield "s3://models/edge"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.kill()
        server.wait(10)


def test_commands_work_on_a_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGE_REGISTRY", bucket)
    key = str(tmp_path / "key.pem")
    assert main(["registry", "keygen", key]) == EXIT_OK
    public = capsys.readouterr().out.splitlines()[-1]
    assert PublicKey.parse(public).text() == public
    assert Path(key).stat().st_mode & 0o077 == 0
    for version in ("1.0.0", "1.1.0"):
        folder = str(golden_folder(tmp_path, version))
        Path(folder, "NOTICE").touch()  # S3 has no range of an empty object
        other = str(golden_folder(tmp_path / "other", version, licence="MIT"))
        for pushed, code in ((folder, EXIT_OK), (folder, EXIT_OK), (other, EXIT_CONFIG)):
            assert main(["registry", "push", pushed, "--sign-key", key]) == code
    promote = ["registry", "promote", COLOR, "1.1.0", "production", "--sign-key", key]
    assert main(promote) == EXIT_OK
    assert main(["registry", "remove", COLOR, "1.0.0", "--sign-key", key]) == EXIT_OK
    capsys.readouterr()
    assert main(["registry", "list"]) == EXIT_OK
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == [COLOR, "1.1.0", "2", "production"]
    assert main(["registry", "show", COLOR, "1.1.0", "--trusted-key", public]) == EXIT_OK
    assert "signature: by " in capsys.readouterr().out
    back = tmp_path / "back"
    pull = ["registry", "pull", COLOR, "--output", str(back), "--trusted-key", public]
    assert main(pull) == EXIT_OK
    assert manifest.read(back).version == "1.1.0"
    assert (back / "NOTICE").read_bytes() == b""
    store = registry.open_store(bucket)
    with pytest.raises(FileExistsError):
        store.put(f"{COLOR}/1.1.0/{VERSION_NAME}", b"other", is_new=True)


@pytest.mark.parametrize("is_bucket", [True, False], ids=["bucket", "folder"])
def test_objects_are_listed_read_and_removed(tmp_path: Path, is_bucket: bool) -> None:
    if is_bucket:
        pytest.importorskip("fsspec")
    address = "memory://models/edge/" if is_bucket else str(tmp_path / "new")
    store = registry.open_store(address, is_new=True)
    for name in ("b/two", "b/one", "a/one", "c"):
        store.put(f"dog/{name}", name.encode())
    assert store.names("dog") == ["a", "b", "c"]
    assert store.names("dog/b") == ["one", "two"]
    assert store.names("cat") == []
    assert (store.get("dog/b/one", 3), store.get("dog/b/one", 99)) == (b"b/o", b"b/one")
    store.put("dog/c", b"other")
    assert store.get("dog/c", 99) == b"other"
    store.delete("dog/b/one")
    assert store.names("dog/b") == ["two"]
    with pytest.raises(FileNotFoundError):
        store.get("dog/b/one", 99)


def test_bucket_that_never_answers_is_asked_ten_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setattr(registry, "READ_TIMEOUT_S", 0.1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert main(["registry", "list", "--registry", "s3://silent/models"]) == EXIT_UNAVAILABLE
        silent.settimeout(0)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
    assert asked == 10
    assert "registry s3://silent/models: ReadTimeoutError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["show", COLOR, "1.0.0"],
        ["push", "FOLDER"],
        ["promote", COLOR, "1.0.0", "staging"],
        ["pull", COLOR, "--output", "OUTPUT"],
        ["remove", COLOR, "1.0.0"],
    ],
    ids=lambda words: words[0],
)
def test_unreachable_registry_is_a_one_line_error(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("s3fs")
    paths = {"OUTPUT": str(tmp_path / "pulled")}
    if "FOLDER" in words:
        paths["FOLDER"] = str(golden_folder(tmp_path, "1.0.0"))
    words = [paths.get(word, word) for word in words]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    assert main(["registry", *words, "--registry", "s3://away/models"]) == EXIT_UNAVAILABLE
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "registry s3://away/models" in line


@pytest.mark.parametrize("address", ["ftp://x", "dir://x", "nothing://x", "https://x/models"])
def test_address_of_unknown_kind_is_a_one_line_error(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec")
    assert main(["registry", "list", "--registry", address]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"edge-tools: registry {address}: ")


def test_empty_registry_and_unknown_model_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--registry", str(tmp_path)]
    for words, missing in (([], "no model in it"), (["dog"], "no dog in it")):
        assert main(["registry", "list", *words, *place]) == EXIT_OK
        assert missing in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["show", "dog", "1"], ["promote", "dog", "1", "none"]])
def test_folder_that_is_not_there_is_no_empty_registry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    place = str(tmp_path / "not-mounted")
    assert main(["registry", *words, "--registry", place]) == EXIT_UNAVAILABLE
    assert f"registry {place}: no such folder; is it mounted?" in capsys.readouterr().err


def test_error_for_a_missing_registry_names_the_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDGE_REGISTRY", raising=False)
    assert main(["registry", "list"]) == EXIT_CONFIG
    assert "--registry" in capsys.readouterr().err
