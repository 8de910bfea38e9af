from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="trainings need PyTorch: pip install 'edge-camera[tools]'")
pytest.importorskip("rich", reason="trainings need rich: pip install 'edge-camera[tools]'")

from tools.cli import main

WRONG_NUMBERS = {
    "train color --data x": (
        "--epochs 0", "--threads -1", "--hold-out 1", "--hold-from x", "--learning-rate nan",
        "--learning-rate 0", "--trunk-rate -1", "--emphasis 1.1", "--cutmix nan", "--seed -1",
        "--seed 4294967296", "--input 40", "--input 0", "--widths -1 8 8", "--depths x 1 1",
        "--colors 1.5", "--white-balance -0.1", "--device gpu", "--device meta",
    ),
    "train color-int8 c.pt --data x": (
        "--steps 0", "--every 0", "--threads 0", "--percentile nan", "--percentile 0", "--seed -1",
    ),
    "quantize color c.pt --data x --out m": ("--images 0", "--percentile 101", "--percentile 50"),
    "color study --data x": ("--epochs 0", "--limit -1", "--threads 0"),
    "label color x": ("--limit 0",),
    "annotate color x": ("--val-share 1.5",),
    "train detect --train x --val x --images x": (
        "--label-weight -1", "--teacher-weight nan", "--balance 2", "--seed -1", "--device gpu",
        "--steps 0",
    ),
    "train detect-int8 --train x --val x --images x": ("--seed 1.5", "--steps 0"),
    "quantize detect --output m": ("--percentile 101", "--percentile nan"),
    "train classifier x": ("--seed -1", "--threads 0"),
    "benchmark": ("--threads 0", "--runs 0", "--frames -1"),
    "benchmark-infer": ("--counts 0", "--runs 0"),
    "benchmark-mqtt": ("--events 0", "--rate 0", "--seconds nan", "--rounds 0"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words"), [(one, words) for one, found in WRONG_NUMBERS.items() for words in found]
)
def test_a_number_that_a_command_cannot_take_is_wrong_usage(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    option, number, *more = words.split()
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), option, number, *more])
    assert f"argument {option}: '{number}' is no" in capsys.readouterr().err
