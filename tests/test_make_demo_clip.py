"""The shipped clip matches its script; the script refuses a missing source."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.capture import open_source
from edge.config import CameraConfig
from edge.errors import EXIT_NO_INPUT
from tools.cli import main
from tools.make_demo_clip import END_FRAME, FIRST_FRAME

CLIP = Path(__file__).parent.parent / "edge/assets/demo.mp4"


def test_shipped_clip_is_small_and_has_the_chosen_frames():
    assert CLIP.stat().st_size <= 2_000_000
    source = open_source(CameraConfig(source=str(CLIP)))
    shapes = []
    while (bgr := source.read()) is not None:
        shapes.append(bgr.shape)
    source.close()
    assert (set(shapes), len(shapes)) == ({(480, 640, 3)}, END_FRAME - FIRST_FRAME)
    assert source.fps == 10


def test_missing_source_is_a_one_line_error_with_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, output = str(tmp_path / "none.avi"), str(tmp_path / "clip.mp4")
    code = main(["demo-clip", "--source", source, "--output", output])
    assert code == EXIT_NO_INPUT
    assert "none.avi: no such video" in capsys.readouterr().err
