"""`edge-tools data scaling`: the same import on pools and clusters of several sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

import labelled
from edge.errors import EXIT_NO_INPUT, EXIT_OK, EXIT_UNAVAILABLE
from tools.cli import main

pytest.importorskip("distributed")
pytest.importorskip("defusedxml")

PICTURES = 12


def scaling(source: Path, scratch: Path, *more: str) -> int:
    words = ["data", "scaling", str(source), "--format", "coco", "--scratch", str(scratch)]
    return main([*words, "--max-side", "48", *more])


@pytest.mark.slow
def test_each_row_converts_every_picture_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, scratch = labelled.coco(tmp_path / "source", PICTURES), tmp_path / "scratch"
    scratch.mkdir()
    assert scaling(source, scratch, "--workers", "1", "2") == EXIT_OK
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    names = [(row[0], row[1], row[2]) for row in rows]
    assert names == [(k, w, str(PICTURES)) for k in ("pool", "dask") for w in ("1", "2")]
    first_s = float(rows[0][3])
    for _, _, _, seconds, rate, gain in rows:
        assert float(rate) == pytest.approx(PICTURES / float(seconds), rel=0.4)
        assert float(gain) == pytest.approx(first_s / float(seconds), rel=0.4, abs=0.02)
    assert list(scratch.iterdir()) == []


def test_source_without_readable_pictures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = labelled.coco(tmp_path / "source", 1)
    (tmp_path / "source" / "images" / "000.jpg").unlink()
    assert scaling(source, tmp_path, "--workers", "1") == EXIT_NO_INPUT
    assert "no picture could be converted" in capsys.readouterr().err


def test_unreachable_cluster_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tools.parallel.CONNECT_S", 0.5)
    source = labelled.coco(tmp_path / "source", 1)
    more = ("--workers", "1", "--dask", "tcp://127.0.0.1:9")
    assert scaling(source, tmp_path, *more) == EXIT_UNAVAILABLE
    assert "--dask tcp://127.0.0.1:9" in capsys.readouterr().err
