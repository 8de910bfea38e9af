from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="training needs rich: pip install 'edge-camera[tools]'")

import torch

from disk import full_disk
from edge.errors import EXIT_NO_INPUT, InputError
from tools import tensor_file
from tools.cli import main

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


def test_written_tensors_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    tensor_file.write({"step": 3, "weight": torch.ones(2)}, path)
    stored = tensor_file.read(path, ("step", "weight"), "train color")
    assert stored["step"] == 3
    assert stored["weight"].tolist() == [1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_error_for_an_invalid_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    text, cut, other, bare = (tmp_path / name for name in ("a.md", "b.pt", "c.pt", "d.pt"))
    text.write_text("# no tensors\n")
    tensor_file.write({"step": 3, "weight": torch.ones(999)}, other)
    cut.write_bytes(other.read_bytes()[:-200])
    torch.save(torch.ones(2), bare)
    for path in (text, cut, other, bare):
        with pytest.raises(InputError, match=f"^{path} is not a checkpoint of `edge-tools train c"):
            tensor_file.read(path, ("config",), "train color")
    with pytest.raises(InputError, match=f"^{tmp_path} is a folder; name .* such as {cut}$"):
        tensor_file.read(tmp_path, ("config",), "train color")
    with pytest.raises(InputError, match=r"none\.pt is missing; make one with `edge-tools train c"):
        tensor_file.read(tmp_path / "none.pt", ("config",), "train color")


def test_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pt"
    torch.save({"config": Path.cwd}, path)
    with pytest.raises(InputError, match="is not a checkpoint"):
        tensor_file.read(path, ("config",), "train color")


@pytest.mark.parametrize(
    "words",
    [
        ("quantize", "color", "FILE", "--data", "DATA", "--output", "OUT"),
        ("color", "average", "FILE", "FILE", "--output", "OUT"),
        ("train", "color-int8", "FILE", "--data", "DATA", "--output", "OUT"),
        ("train", "color", "--data", "DATA", "--weights", "FILE", "--output", "OUT"),
    ],
)
def test_file_that_is_not_a_checkpoint_gives_no_traceback(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "DATA" in words and not SHARED.exists():
        pytest.skip("the data folder is not here")
    places = {"FILE": ROOT / "README.md", "DATA": SHARED, "OUT": tmp_path / "out"}
    assert main([str(places.get(word, word)) for word in words]) == EXIT_NO_INPUT
    lines = capsys.readouterr().err.splitlines()
    complaint = f"edge-tools: {ROOT / 'README.md'} is not a checkpoint of `edge-tools train color"
    assert lines[-1].startswith(complaint)


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    tensor_file.write({"step": 1}, path)
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        tensor_file.write({"step": 2, "weight": torch.ones(9999)}, path)
    assert tensor_file.read(path, ("step",), "train color") == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
