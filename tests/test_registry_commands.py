"""Files and output of the registry commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from disk import full_disk
from edge import manifest, registry
from edge.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_NO_INPUT, EXIT_OK, EXIT_USAGE
from edge.signature import PublicKey, SecretKey
from models import COLOR
from registered import Registry, golden_folder
from tools.cli import main
from tools.registry import options, versions

ROOT = Path(__file__).parents[1]


def test_keygen_writes_a_matching_key_pair(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    assert main(["registry", "keygen", str(file)]) == EXIT_OK
    _comment, public = (tmp_path / "key.pem.pub").read_text().splitlines()
    assert PublicKey.parse(public) == SecretKey.read(file).public
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("password", [b"secret", b"\xff\xfe"], ids=["text", "no_text"])
def test_a_password_encrypts_the_secret_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: bytes
) -> None:
    file = tmp_path / "key.pem"
    monkeypatch.setitem(options.os.environb, options.PASSWORD_VARIABLE.encode(), password)
    assert main(["registry", "keygen", str(file)]) == EXIT_OK
    assert b"ENCRYPTED" in file.read_bytes()
    SecretKey.read(file, password)


@pytest.mark.parametrize("taken", ["key.pem", "key.pem.pub"])
def test_keygen_overwrites_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    (tmp_path / taken).write_text("of another pair")
    assert main(["registry", "keygen", str(tmp_path / "key.pem")]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / taken}: " in line
    assert line.endswith("; name a new file")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "of another pair"


def test_a_password_that_is_too_long_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(options.PASSWORD_VARIABLE, "x" * 2000)
    assert main(["registry", "keygen", str(tmp_path / "key.pem")]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"${options.PASSWORD_VARIABLE}: " in line
    assert list(tmp_path.iterdir()) == []


def test_keygen_on_a_full_disk_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["registry", "keygen", str(tmp_path / "key.pem")]
    with full_disk(10):
        assert main(words) == EXIT_FAILURE
    assert "make room and start again" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_push_sets_the_version_of_the_command_line(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(golden_folder(tmp_path / "new", "1.0.0"))
    assert (
        main(["registry", "push", folder, "--version", "2.0.0", *signed_registry.place]) == EXIT_OK
    )
    assert capsys.readouterr().out.startswith(f"{COLOR} 2.0.0: registered, serial 1, NOT signed")
    assert [one.version for one in registry.versions(signed_registry.store, COLOR)] == ["2.0.0"]


def test_push_names_the_signer(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key.pem").write_bytes(signed_registry.key.pem())
    words = ["registry", "push", str(golden_folder(tmp_path, "1.0.0")), *signed_registry.place]
    assert main([*words, "--sign-key", str(tmp_path / "key.pem")]) == EXIT_OK
    signer = signed_registry.key.public.name
    assert capsys.readouterr().out == f"{COLOR} 1.0.0: registered, serial 1, signed by {signer}\n"


def test_odd_version_is_a_usage_error(
    signed_registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["registry", "push", COLOR, "--version", "1 0", *signed_registry.place])
    assert stop.value.code == EXIT_USAGE
    assert "'1 0' is not a version" in capsys.readouterr().err


def test_list_shows_the_size_of_each_version(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = golden_folder(tmp_path, "1.0.0")
    (folder / "CARD.md").write_text("x" * 2_500_000)
    made = versions.push(signed_registry.store, folder, signed_registry.key)
    size_mb = sum(fact.bytes for fact in made.files.values()) / 1e6
    assert main(["registry", "list", *signed_registry.place]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out.split() == [COLOR, "1.0.0", "1", "none", f"{size_mb:.2f}", "MB"]
    assert captured.err == ""


def test_list_of_one_model_omits_others(
    signed_registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    assert main(["registry", "list", COLOR, *signed_registry.place]) == EXIT_OK
    assert capsys.readouterr().out.startswith(COLOR)
    assert main(["registry", "list", "other", *signed_registry.place]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no other in it" in captured.err


def test_list_passes_over_a_file_that_is_no_model(
    signed_registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    (signed_registry.folder / "registry/README.txt").write_text("models of the fleet")
    assert main(["registry", "list", *signed_registry.place]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out.split()[:2] == [COLOR, "1.0.0"]
    assert captured.err == ""


@pytest.mark.parametrize("words", [["list"], ["show", COLOR, "1.0.0", "--card"]])
def test_reader_that_ends_early_is_no_fault_of_the_registry(
    signed_registry: Registry, words: list[str]
) -> None:
    """As `edge-tools registry show … | head -1`, with lines written one by one."""
    signed_registry.push("1.0.0")
    command = [sys.executable, "-um", "tools", "registry", *words, *signed_registry.place]
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (EXIT_OK, "")


def test_promote_warns_that_boards_refuse_unsigned_stages(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    words = ["registry", "promote", COLOR, "1.0.0", "staging", *signed_registry.place]
    assert main(words) == EXIT_OK
    assert "NOT signed: boards" in capsys.readouterr().out
    (tmp_path / "key.pem").write_bytes(signed_registry.key.pem())
    assert main([*words, "--sign-key", str(tmp_path / "key.pem")]) == EXIT_OK
    assert capsys.readouterr().out.split() == [COLOR, "1.0.0", "staging"]


def test_unknown_stage_is_a_usage_error(signed_registry: Registry) -> None:
    signed_registry.push("1.0.0")
    with pytest.raises(SystemExit, match="2"):
        main(["registry", "promote", COLOR, "1.0.0", "live", *signed_registry.place])
    assert registry.read_stages(signed_registry.store, COLOR).stages == {}


def test_pull_creates_parent_folders_and_leaves_no_other_files(
    signed_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_registry.push("1.0.0")
    # Often another file system, from which a folder cannot be moved.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    output = tmp_path / "made" / "for" / "it"
    words = ["registry", "pull", COLOR, "--version", "1.0.0", *signed_registry.place]
    assert main([*words, "--output", str(output)]) == EXIT_OK
    assert manifest.read(output).version == "1.0.0"
    assert list(output.parent.iterdir()) == [output]


def test_pull_reports_whether_a_signature_was_checked(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    words = ["registry", "pull", COLOR, "--version", "1.0.0", *signed_registry.place]
    trusted = ["--trusted-key", signed_registry.key.public.text()]
    assert main([*words, "--output", str(tmp_path / "any")]) == EXIT_OK
    assert "1.0.0, hashes, NOT its signature, checked" in capsys.readouterr().out
    assert main([*words, "--output", str(tmp_path / "trusted"), *trusted]) == EXIT_OK
    assert "1.0.0, signature and hashes checked" in capsys.readouterr().out


def test_pull_overwrites_no_folder(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    output = tmp_path / "mine"
    output.mkdir()
    words = ["registry", "pull", COLOR, "--version", "1.0.0", *signed_registry.place]
    assert main([*words, "--output", str(output)]) == EXIT_NO_INPUT
    assert f"{output}: exists" in capsys.readouterr().err
    assert list(output.iterdir()) == []


def test_show_prints_the_signer_and_the_files_of_the_version(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unsigned = str(golden_folder(tmp_path / "unsigned", "1.0.0"))
    assert main(["registry", "push", unsigned, *signed_registry.place]) == EXIT_OK
    made = signed_registry.push("1.1.0")
    trusted = ["--trusted-key", signed_registry.key.public.text()]
    for version, more, signature in (
        ("1.0.0", [], "none"),
        ("1.1.0", [], "there, not checked: give --trusted-key"),
        ("1.1.0", trusted, f"by {signed_registry.key.public.name}"),
    ):
        capsys.readouterr()
        assert main(["registry", "show", COLOR, version, *more, *signed_registry.place]) == EXIT_OK
        lines = capsys.readouterr().out.splitlines()
        assert f"signature: {signature}" in lines
    assert lines[0] == f"{COLOR} 1.1.0, serial 2, stage none"
    for name, fact in made.files.items():
        assert f"  {fact.sha256}  {fact.bytes:>9}  {name}" in lines
    assert 'task: "color"' in lines
    assert (
        main(["registry", "show", COLOR, "1.0.0", *trusted, *signed_registry.place]) == EXIT_CONFIG
    )
    assert "not signed" in capsys.readouterr().err


def test_show_prints_the_card_with_the_option(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("1.0.0", "1.1.0"):
        folder = golden_folder(tmp_path / "new", version)
        (folder / "CARD.md").unlink(missing_ok=True)
        if version == "1.1.0":
            (folder / "CARD.md").write_text("# Reds and blues\n")
        assert main(["registry", "push", str(folder), *signed_registry.place]) == EXIT_OK
    for version, more, has_card in (
        ("1.1.0", ["--card"], True),
        ("1.1.0", [], False),
        ("1.0.0", ["--card"], False),
    ):
        capsys.readouterr()
        assert main(["registry", "show", COLOR, version, *more, *signed_registry.place]) == EXIT_OK
        assert ("\n# Reds and blues\n" in capsys.readouterr().out) is has_card


def test_remove_prints_what_it_removed(
    signed_registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    assert main(["registry", "remove", COLOR, "1.0.0", *signed_registry.place]) == EXIT_OK
    assert capsys.readouterr().out == f"{COLOR} 1.0.0: removed\n"
    assert registry.versions(signed_registry.store, COLOR) == []
