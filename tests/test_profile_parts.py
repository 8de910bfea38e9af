"""The profile of a model's parts: every part is included, and a larger part takes longer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
flatbuffers = pytest.importorskip("flatbuffers")

from edge.errors import InputError, ModelError  # noqa: E402
from tools import profile_parts, quantize, tflite_file  # noqa: E402
from tools.cli import main  # noqa: E402


class Uneven(torch.nn.Module):  # type: ignore[misc]
    """A small part and one with a hundred times its multiplications."""

    def __init__(self) -> None:
        super().__init__()
        self.small = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU())
        self.large = torch.nn.Sequential(torch.nn.Conv2d(8, 64, 5, 1, 2), torch.nn.ReLU())

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.large(self.small(value))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    torch.manual_seed(1)
    images = [np.full((64, 64, 3), level, np.uint8) for level in (0, 90, 255)]
    quantize.export(Uneven().eval(), images, path, (3, 64, 64))
    return path


def test_parts_cover_the_model_and_the_larger_one_takes_longer(model: Path) -> None:
    small, large = profile_parts.measure(model, depth=1, turns=20)
    assert small.multiplications == 64 * 64 * 8 * 3
    assert large.multiplications == 64 * 64 * 64 * 8 * 25
    assert large.ms > small.ms > 0


def test_multiplications_are_counted_in_files_of_old_converters_too(model: Path) -> None:
    old = tflite_file.unpacked(model.read_bytes())
    for code in old.operatorCodes:
        code.builtinCode = 0  # only the deprecated field is filled
    builder = flatbuffers.Builder(1024)
    builder.Finish(old.Pack(builder), b"TFL3")
    model.write_bytes(bytes(builder.Output()))
    small, large = profile_parts.measure(model, depth=1, turns=1)
    assert small.multiplications == 64 * 64 * 8 * 3
    assert large.multiplications == 64 * 64 * 64 * 8 * 25


def test_the_time_that_is_left_is_told_after_the_first_turn(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tools")
    profile_parts.measure(model, depth=1, turns=2)
    parts, timing = caplog.messages
    assert parts == "profile.parts count=2; cutting the model after each"
    assert timing.startswith("profile.timing about_s=0; less with")


def test_an_installed_model_is_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "color-64", "--turns", "1"]) == 0
    assert "color-64/model.tflite" in capsys.readouterr().out


def test_file_that_is_not_a_model_is_named(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.tflite"
    for content in (b"these are notes, not a model", model.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"notes\.tflite"):
            profile_parts.measure(path, depth=1, turns=1)
    with pytest.raises(InputError, match=r"none\.tflite"):
        profile_parts.measure(tmp_path / "none.tflite", depth=1, turns=1)


def test_pipe_in_place_of_a_model_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.tflite")
    with pytest.raises(InputError, match="not a plain file"):
        profile_parts.measure(tmp_path / "model.tflite", depth=1, turns=1)
