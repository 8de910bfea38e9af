"""`edge-tools evaluate MODEL`: the model tells which command it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ModelError
from models import DATA, color_folder
from tools import cli, model_kind


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A classifier's run with one level beside it."""
    for folder in (tmp_path / "run", tmp_path / "run" / "levels" / "IO"):
        folder.mkdir(parents=True)
        (folder / "classifier.json").touch()
    return tmp_path / "run"


def test_folder_tells_its_kind(run: Path) -> None:
    assert model_kind.of(str(run)) == "classifier"
    assert model_kind.of(str(run / "levels")) == "classifier"
    assert model_kind.of("color-64") == "color"
    assert model_kind.of("models/yolox-nano-352") == "detect"
    assert model_kind.of(str(DATA / "yolov5.tflite")) == "detect"


def test_a_model_is_found_by_path_or_by_the_name_of_an_installed_one(tmp_path: Path) -> None:
    shipped = model_kind.folder_of("color-64")
    assert (shipped / "manifest.json").is_file()
    own = color_folder(tmp_path)
    assert model_kind.folder_of(str(own)) == own
    with pytest.raises(ModelError, match=r"'color-65' is not installed; installed: .*color-64"):
        model_kind.folder_of("color-65")


@pytest.mark.parametrize(
    "text", ["--data", "nothing-here", "no/such/folder", "gone.tflite", "", "n" * 300]
)
def test_other_words_tell_nothing(text: str) -> None:
    assert model_kind.of(text) is None


def test_second_word_may_be_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["quantize", str(run), "--levels", "all"]) == 78
    err = capsys.readouterr().err
    assert err.startswith(f"edge-tools: classifier {run}: classifier.json is not valid")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "nothing-here"], "evaluate nothing-here: neither a model that is here"),
        (["quantize", "color-65"], "nor one of detect, color, classifier"),
        (["registry", "puhs"], "unknown command 'registry puhs', registry needs one of keygen"),
        (["nonsense"], "unknown command 'nonsense'"),
    ],
)
def test_words_that_name_no_command_are_told(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_help_of_a_group_is_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--help"])
    assert stopped.value.code == 0
    assert "evaluate classifier" in capsys.readouterr().out
