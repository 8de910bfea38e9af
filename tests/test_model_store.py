"""Lookup of models: own ones before shipped ones; errors where none is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge import model_store
from edge.errors import ModelError
from edge.manifest import MANIFEST_NAME

SHIPPED = sorted(path.name for path in model_store.SHIPPED_DIRS[1].iterdir())


def model(folder: Path) -> Path:
    """A folder with an empty manifest: it is not read here."""
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).touch()
    return folder


def test_shipped_models_are_listed_by_name() -> None:
    assert [folder.name for folder in model_store.installed()] == SHIPPED
    assert all(model_store.is_shipped(folder) for folder in model_store.installed())


def test_own_models_take_precedence_over_shipped_ones_of_the_same_name(tmp_path: Path) -> None:
    own = [model(tmp_path / name) for name in ("zebra", SHIPPED[1], "aardvark")]
    (tmp_path / "no-model").mkdir()
    found = model_store.installed(str(tmp_path))
    assert [folder.name for folder in found] == sorted({*SHIPPED, "zebra", "aardvark"})
    assert set(own) < set(found)
    assert model_store.find(SHIPPED[1], str(tmp_path)) == own[1]
    assert not model_store.is_shipped(own[1])
    assert model_store.is_shipped(model_store.find(SHIPPED[0], str(tmp_path)))


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_invalid_models_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / name
    with pytest.raises(ModelError, match=f"^models_dir {re.escape(str(place))}: .*; make it"):
        model_store.search_dirs(str(place))


def test_path_selects_exactly_that_folder(tmp_path: Path) -> None:
    own = model(tmp_path / SHIPPED[0])
    assert model_store.find(str(own)) == own
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=f"empty: no {MANIFEST_NAME} there; name a model folder"):
        model_store.find(f"{tmp_path}/empty")


def test_error_for_a_missing_model_lists_the_installed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = f"model 'dog' is not installed; installed: {', '.join(SHIPPED)}"
    with pytest.raises(ModelError) as raised:
        model_store.find("dog")
    assert str(raised.value) == message
    model(tmp_path / "dog")
    with pytest.raises(ModelError) as raised:
        model_store.find("dog")
    assert str(raised.value) == f"{message}; for the folder here write ./dog"
    assert model_store.find("./dog") == Path("dog")
    monkeypatch.setattr(model_store, "SHIPPED_DIRS", ())
    with pytest.raises(ModelError, match="installed: none"):
        model_store.find("cat")
