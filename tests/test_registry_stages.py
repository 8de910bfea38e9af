"""Stages of a registry: promotion, signatures, damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from edge import registry
from edge.errors import EXIT_CONFIG, EXIT_OK, ModelError
from edge.signature import SecretKey, SignatureError
from models import COLOR
from registered import Registry, golden_folder
from tools.cli import main
from tools.registry import versions


def test_promotion_archives_the_previous_version(signed_registry: Registry) -> None:
    for version in ("1.0.0", "1.1.0"):
        signed_registry.push(version)
        versions.promote(signed_registry.store, COLOR, version, "production", signed_registry.key)
    stages = registry.read_stages(signed_registry.store, COLOR, signed_registry.trusted)
    assert stages.stages == {"1.0.0": "archived", "1.1.0": "production"}
    assert registry.choose(stages, "production") == "1.1.0"
    with pytest.raises(ModelError, match="promote another"):
        versions.remove(signed_registry.store, COLOR, "1.1.0", signed_registry.key)
    with pytest.raises(ModelError, match="--sign-key"):
        versions.promote(signed_registry.store, COLOR, "1.0.0", "production", None)


def test_promotion_changes_only_this_stage(signed_registry: Registry) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        signed_registry.push(version)
    promotions = {"1.0.0": "production", "1.1.0": "staging", "1.2.0": "none", "1.3.0": "none"}
    for version, stage in promotions.items():
        versions.promote(signed_registry.store, COLOR, version, stage, signed_registry.key)
    stages = registry.read_stages(signed_registry.store, COLOR, signed_registry.trusted)
    assert (stages.stages, stages.revision) == (promotions, 4)


def test_missing_version_is_neither_promoted_nor_removed(signed_registry: Registry) -> None:
    signed_registry.push("1.0.0")
    with pytest.raises(ModelError, match="not in the registry; push it first"):
        versions.promote(signed_registry.store, COLOR, "1.1.0", "staging", signed_registry.key)
    with pytest.raises(ModelError, match="not in the registry"):
        versions.remove(signed_registry.store, COLOR, "1.1.0", signed_registry.key)
    assert registry.read_stages(
        signed_registry.store, COLOR, signed_registry.trusted
    ) == registry.Stages(name=COLOR)


def test_a_removed_version_holds_no_stage_and_its_serial_is_kept(signed_registry: Registry) -> None:
    for version in ("1.0.0", "1.1.0"):
        signed_registry.push(version)
        versions.promote(signed_registry.store, COLOR, version, "archived", signed_registry.key)
    versions.remove(signed_registry.store, COLOR, "1.1.0", signed_registry.key)
    stages = registry.read_stages(signed_registry.store, COLOR, signed_registry.trusted)
    assert (stages.stages, stages.removed) == ({"1.0.0": "archived"}, {"1.1.0": 2})
    assert stages.revision == 3


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_unsigned_version_gets_no_stage_in_a_signed_registry(
    signed_registry: Registry, tmp_path: Path, stage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    before = versions.promote(signed_registry.store, COLOR, "1.0.0", stage, signed_registry.key)
    (tmp_path / "key.pem").write_bytes(signed_registry.key.pem())
    folder = str(golden_folder(tmp_path / "unsigned", "1.1.0"))
    assert main(["registry", "push", folder, *signed_registry.place]) == EXIT_OK
    assert "NOT signed: boards will refuse it; for them push a new" in capsys.readouterr().out
    words = ["registry", "promote", COLOR, "1.1.0", stage, *signed_registry.place]
    assert main([*words, "--sign-key", str(tmp_path / "key.pem")]) == EXIT_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("would refuse it; push a new version with --sign-key")
    assert registry.read_stages(signed_registry.store, COLOR, signed_registry.trusted) == before
    versions.promote(signed_registry.store, COLOR, "1.1.0", "archived", signed_registry.key)


def test_a_push_whose_stage_would_be_refused_registers_nothing(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_registry.push("1.0.0")
    versions.promote(signed_registry.store, COLOR, "1.0.0", "production", signed_registry.key)
    folder = str(golden_folder(tmp_path / "new", "1.1.0"))
    words = ["registry", "push", folder, *signed_registry.place, "--stage", "staging"]
    assert main(words) == EXIT_CONFIG
    assert "its stages are signed; give --sign-key" in capsys.readouterr().err
    assert [one.version for one in registry.versions(signed_registry.store, COLOR)] == ["1.0.0"]


def test_a_registry_without_keys_has_stages(
    signed_registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("1.0.0", "1.1.0"):
        folder = str(golden_folder(tmp_path / "unsigned", version))
        words = ["registry", "push", folder, *signed_registry.place, "--stage", "production"]
        assert main(words) == EXIT_OK
    stages = registry.read_stages(signed_registry.store, COLOR).stages
    assert stages == {"1.0.0": "archived", "1.1.0": "production"}
    pulled = str(tmp_path / "pulled")
    assert main(["registry", "pull", COLOR, "--output", pulled, *signed_registry.place]) == EXIT_OK


def test_stages_of_an_unknown_key_are_refused(signed_registry: Registry) -> None:
    signed_registry.push("1.0.0")
    versions.promote(signed_registry.store, COLOR, "1.0.0", "production", SecretKey.generate())
    with pytest.raises(SignatureError, match="not trusted"):
        registry.read_stages(signed_registry.store, COLOR, signed_registry.trusted)


def test_stages_of_another_model_are_refused(signed_registry: Registry) -> None:
    """They are signed, too: whoever writes the registry could put its versions into service."""
    signed_registry.push("1.0.0")
    versions.promote(signed_registry.store, COLOR, "1.0.0", "production", signed_registry.key)
    moved = signed_registry.store.get(f"{COLOR}/{registry.STAGES_NAME}", registry.MAX_STAGES_BYTES)
    signed_registry.store.put(f"other/{registry.STAGES_NAME}", moved)
    with pytest.raises(SignatureError, match=f"it is of model {COLOR}; somebody moved it"):
        registry.read_stages(signed_registry.store, "other", signed_registry.trusted)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"text": "{}"}', b"\xff"])
def test_damaged_stages_are_repaired_as_the_error_suggests(
    signed_registry: Registry, content: bytes
) -> None:
    signed_registry.push("1.0.0")
    key = f"{COLOR}/{registry.STAGES_NAME}"
    signed_registry.store.put(key, content)
    with pytest.raises(ModelError, match=r"is damaged: .*; take it from a backup, or delete it"):
        versions.promote(signed_registry.store, COLOR, "1.0.0", "staging", signed_registry.key)
    signed_registry.store.delete(key)
    versions.promote(signed_registry.store, COLOR, "1.0.0", "staging", signed_registry.key)
