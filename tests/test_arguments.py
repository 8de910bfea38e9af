from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="trainings need PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="trainings need rich: pip install 'edge-camera[tools]'")

from tools import arguments
from tools.cli import main

WRONG_VALUES = {
    "train color --data x": (
        "--epochs 0", "--threads -1", "--hold-out 1", "--hold-from x", "--learning-rate nan",
        "--learning-rate 0", "--trunk-rate -1", "--emphasis 1.1", "--cutmix nan", "--seed -1",
        "--seed 4294967296", "--input 40", "--input 0", "--widths -1 8 8", "--depths x 1 1",
        "--colors 1.5", "--white-balance -0.1", "--device gpu", "--device meta",
    ),
    "train color-int8 c.pt --data x": (
        "--steps 0", "--every 0", "--threads 0", "--percentile nan", "--percentile 0", "--seed -1",
    ),
    "quantize color c.pt --data x --output m": (
        "--images 0", "--percentile 101", "--percentile 50", "--version ../1",
    ),
    "color study --data x": ("--epochs 0", "--limit -1", "--threads 0"),
    "label color x": ("--limit 0",),
    "annotate color x": ("--val-share 1.5",),
    "train detect --train x --val x --images x": (
        "--label-weight -1", "--teacher-weight nan", "--balance 2", "--seed -1", "--device gpu",
        "--steps 0", "--sizes ,", "--sizes 288,x", "--sizes 100",
    ),
    "evaluate color color-64 --data x": ("--coverage 0", "--coverage x"),
    "explain detect x": ("--min-score nan", "--min-score 2"),
    "validate m": ("--max-params inf", "--max-params 1.5.0"),
    "train detect-int8 --train x --val x --images x": ("--seed 1.5", "--steps 0", "--groups 17"),
    "quantize detect --output m": (
        "--percentile 101", "--percentile nan", "--groups 17", "--silu-floor 5",
        "--silu-floor nan", "--version ../1", "--version .1",
    ),
    "import-model x.tflite --decoder yolov5 --output m": (
        "--version ../1", "--version 1/2", "--nms-iou 3", "--nms-iou nan",
    ),
    "train classifier x": ("--seed -1", "--threads 0", "--output my*birds"),
    "quantize classifier x": ("--output my*birds",),
    "benchmark": ("--threads 0", "--runs 0", "--frames -1"),
    "benchmark-infer": ("--counts 0", "--runs 0"),
    "benchmark-mqtt": ("--events 0", "--rate 0", "--seconds nan", "--rounds 0"),
    "soak": ("--minutes nan", "--minutes inf"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words"), [(one, words) for one, found in WRONG_VALUES.items() for words in found]
)
def test_invalid_number_or_name_is_a_usage_error(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    option, number, *more = words.split()
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), option, number, *more])
    assert f"argument {option}: '{number}' is no" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["quantize", "detect"],
        ["quantize", "color", "c.pt", "--data", "x"],
        ["import-model", "x", "--decoder", "yolov5"],
    ],
)
@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--output", "models/a b", "'a b' is not a model name; give letters, digits"),
        ("--output", "/", "'' is not a model name"),
        ("--version", "", "'' is not a version; give letters, digits"),
        ("--version", "1.0.0\n", "is not a version"),
    ],
)
def test_invalid_registry_name_is_a_usage_error(
    words: list[str], option: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--output", "m", option, text])
    assert f"argument {option}: " in (err := capsys.readouterr().err)
    assert message in err


def test_valid_registry_names_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own-352").mkdir()
    monkeypatch.chdir(tmp_path / "own-352")
    for folder in (".", "../own.new/", "models/own_2"):
        assert arguments.model_folder(folder) == Path(folder)
    for name in ("1.0.0", "1.0.0-rc.1", "2026_1"):
        assert arguments.model_version(name) == name
    assert arguments.zero_or_below("-inf") == float("-inf")
    assert [arguments.count_to(16)(text) for text in ("1", "16")] == [1, 16]
