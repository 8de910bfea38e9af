"""JSON output of commands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from disk import full_disk
from edge.errors import EXIT_FAILURE, EdgeError
from tools import json_file
from tools.cli import main

MODEL = Path(__file__).parents[1] / "models" / "color-64"


def refuse(constant: str) -> None:
    raise ValueError(constant)


def test_non_finite_numbers_become_null(tmp_path: Path) -> None:
    file = tmp_path / "new" / "figures.json"
    json_file.write({"sizes": {"small": math.nan}, "rows": [(1.5, math.inf)]}, file)
    json_file.add_line({"ap": math.nan}, tmp_path / "metrics.jsonl")
    found = json.loads(file.read_text(), parse_constant=refuse)
    assert found == {"sizes": {"small": None}, "rows": [[1.5, None]]}
    assert (tmp_path / "metrics.jsonl").read_text() == '{"ap": null}\n'


def test_full_disk_is_reported_with_the_file(tmp_path: Path) -> None:
    figures, lines = tmp_path / "figures.json", tmp_path / "metrics.jsonl"
    with full_disk(0), pytest.raises(EdgeError, match=r"figures\.json"):
        json_file.write({"ap": 1}, figures)
    json_file.add_line({"ap": 1}, lines)
    with full_disk(12), pytest.raises(OSError, match="File too large") as raised:
        json_file.add_line({"ap": 2}, lines)
    assert raised.value.filename == str(lines)
    assert lines.read_text() == '{"ap": 1}\n'  # no partial line before the next one


def test_path_for_json_is_checked_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(MODEL), "--json", str(tmp_path)]) == EXIT_FAILURE
    shown = capsys.readouterr()
    assert shown.err == f"edge-tools: {tmp_path}: Is a directory; name a file that can be written\n"
    assert shown.out == ""
